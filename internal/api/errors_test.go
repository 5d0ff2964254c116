package api

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/ottlaio/ottla/internal/config"
	"github.com/ottlaio/ottla/internal/metadata"
	"github.com/ottlaio/ottla/internal/record"
	"github.com/ottlaio/ottla/internal/storage"
)

// TestEverySentinelHasACode reads the exported error values of the domain packages and requires a row for each of them.
func TestEverySentinelHasACode(t *testing.T) {
	t.Parallel()
	source, err := os.ReadFile("errors.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"../record", "../storage", "../metadata", "../coordinator", "../share"} {
		names := sentinels(t, dir)
		if len(names) == 0 {
			t.Errorf("no sentinels in %s", dir)
		}
		for _, name := range names {
			if ref := filepath.Base(dir) + "." + name; !strings.Contains(string(source), "{"+ref+",") {
				t.Errorf("%s has no code in errors.go", ref)
			}
		}
	}
}

// sentinels lists the exported variables named Err… of the package in dir.
func sentinels(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range parsed.Decls {
			group, ok := decl.(*ast.GenDecl)
			if !ok || group.Tok != token.VAR {
				continue
			}
			for _, spec := range group.Specs {
				for _, name := range spec.(*ast.ValueSpec).Names {
					if strings.HasPrefix(name.Name, "Err") {
						names = append(names, name.Name)
					}
				}
			}
		}
	}
	return names
}

func TestWrappedSentinelsKeepTheirCodes(t *testing.T) {
	t.Parallel()
	for _, row := range codes {
		wrapped := fmt.Errorf("partition t-0: %w", fmt.Errorf("append: %w", row.err))
		if code, known := lookUp(wrapped); !known || code != row.code.Code {
			t.Errorf("%v: code %d (known %v), want %s", row.err, code, known, row.code.Message)
		}
	}
}

func TestTypedErrorsHaveCodes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err  error
		want *kerr.Error
	}{
		{&storage.DamageError{}, kerr.KafkaStorageError},
		{&record.Error{Kind: record.ErrCRC, Message: "x"}, kerr.CorruptMessage},
		{&record.Error{Kind: record.ErrUnsupportedMagic, Message: "x"}, kerr.InvalidRecord},
		{&metadata.Error{Kind: metadata.ErrTopicExists}, kerr.TopicAlreadyExists},
		{&config.InvalidError{Name: "x"}, kerr.InvalidConfig},
		{errNoTransaction, kerr.InvalidTxnState},
	} {
		if code, known := lookUp(fmt.Errorf("wrapped: %w", c.err)); !known || code != c.want.Code {
			t.Errorf("%T %v: code %d (known %v), want %s", c.err, c.err, code, known, c.want.Message)
		}
	}
}

func TestUnknownErrorsAreUnknownServerErrors(t *testing.T) {
	t.Parallel()
	if code, known := lookUp(errors.New("who knows")); known || code != kerr.UnknownServerError.Code {
		t.Errorf("code %d, known %v", code, known)
	}
	if code, known := lookUp(nil); !known || code != 0 {
		t.Errorf("nil: code %d, known %v", code, known)
	}
}
