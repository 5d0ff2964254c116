package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

// addCompletion adds cobra's `completion` with an example for each shell. Names of topics and groups are completed too: the scripts ask
// this program, and it asks the cluster.
func addCompletion(root *cobra.Command) {
	root.InitDefaultCompletionCmd()
	examples := map[string]string{
		"bash":       "  source <(%s)\n  %[1]s > /etc/bash_completion.d/ottla",
		"zsh":        "  source <(%s)\n  %[1]s > \"${fpath[1]}/_ottla\"",
		"fish":       "  %s | source\n  %[1]s > ~/.config/fish/completions/ottla.fish",
		"powershell": "  %s | Out-String | Invoke-Expression",
	}
	for _, cmd := range root.Commands() {
		if cmd.Name() != "completion" {
			continue
		}
		cmd.Short = "Write a script that completes commands, topics and groups in your shell"
		cmd.Long = cmd.Short + ". Names of topics and groups are asked of the cluster while you type."
		cmd.Example = "  source <(ottla completion bash)"
		for _, shell := range cmd.Commands() {
			shell.Example = fmt.Sprintf(examples[shell.Name()], shell.CommandPath())
		}
	}
}
