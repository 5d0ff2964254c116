package config

import (
	"os"
	"testing"
)

func TestDocumentationIsUpToDate(t *testing.T) {
	text, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	if string(text) != Markdown() {
		t.Error("docs/configuration.md is not what the tables say: run go generate ./internal/config")
	}
}
