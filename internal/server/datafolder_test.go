package server

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestDataFolderKeepsItsIdentity(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "data")
	first, err := openDataFolder(path, 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	second, err := openDataFolder(path, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	if first.meta != second.meta || len(first.meta.clusterID) != 22 {
		t.Errorf("first start wrote %+v, second read %+v", first.meta, second.meta)
	}
}

func TestDataFolderRefusesWhatIsNotOurs(t *testing.T) {
	t.Parallel()
	write := func(t *testing.T, dir, name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ours := "version=1\ncluster.id=abc\nnode.id=1\ndirectory.id=4L6g3nShT-eMCtK--X86sw\nottla.format=1\n"
	cases := []struct {
		name, file, text, wantText string
		want                       error
	}{
		{"somebody's files", "thesis.tex", "x", "thesis.tex", ErrFolderForeign},
		{"a Kafka folder", metaFile, "version=1\ncluster.id=abc\nnode.id=1\n", "Apache Kafka", ErrFolderForeign},
		{"another broker's folder", metaFile, strings.Replace(ours, "node.id=1", "node.id=7", 1), "belongs to broker 7", nil},
		{"a newer layout", metaFile, strings.Replace(ours, "format=1", "format=9", 1), `ottla.format is "9"`, nil},
		{"a broken file", metaFile, "nonsense\n", `"nonsense"`, nil},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			write(t, dir, c.file, c.text)
			f, err := openDataFolder(dir, 1)
			if err == nil {
				f.Close()
				t.Fatal("the folder was accepted")
			}
			if !strings.Contains(err.Error(), c.wantText) || c.want != nil && !errors.Is(err, c.want) {
				t.Errorf("error %q, want it to name %q and to be %v", err, c.wantText, c.want)
			}
			if got, _ := os.ReadFile(filepath.Join(dir, c.file)); string(got) != c.text {
				t.Errorf("the folder was changed: %s is now %q", c.file, got)
			}
		})
	}
}

func TestSecondBrokerOnOneFolderIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first, err := openDataFolder(dir, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	if second, err := openDataFolder(dir, 1); !errors.Is(err, ErrFolderLocked) {
		if err == nil {
			second.Close()
		}
		t.Fatalf("second open: %v, want ErrFolderLocked", err)
	}
}
