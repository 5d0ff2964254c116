package side

import (
	"os/exec"
	"syscall"
)

// tieToParent has the kernel end the process when the harness dies, however it dies.
func tieToParent(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
