package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// The formats of listings.
const (
	FormatText = "text"
	FormatJSON = "json"
)

// Formats are the values of --format of every listing.
var Formats = []string{FormatText, FormatJSON}

// table is text in columns. Numbers are set to the right.
type table struct {
	header []string
	right  []bool
	rows   [][]string
}

// newTable makes a table; a column whose name starts with ">" is set to the right.
func newTable(columns ...string) *table {
	t := &table{}
	for _, c := range columns {
		name, right := strings.CutPrefix(c, ">")
		t.header, t.right = append(t.header, name), append(t.right, right)
	}
	return t
}

func (t *table) add(cells ...any) {
	row := make([]string, len(t.header))
	for i, c := range cells {
		row[i] = fmt.Sprint(c)
		if row[i] == "" {
			row[i] = "-" // so that a column number means the same in every line, for awk
		}
	}
	t.rows = append(t.rows, row)
}

func (t *table) write(w io.Writer) error {
	widths := make([]int, len(t.header))
	lines := append([][]string{t.header}, t.rows...)
	for _, line := range lines {
		for i, cell := range line {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	var b strings.Builder
	for _, line := range lines {
		var row strings.Builder
		for i, cell := range line {
			pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if i > 0 {
				row.WriteString("  ")
			}
			if t.right[i] {
				row.WriteString(pad + cell)
			} else {
				row.WriteString(cell + pad)
			}
		}
		b.WriteString(strings.TrimRight(row.String(), " "))
		b.WriteByte('\n')
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// print writes a listing: value as indented JSON, or what text writes.
func (s Streams) print(format string, value any, text func(w io.Writer) error) error {
	switch format {
	case "", FormatText:
		return text(s.Out)
	case FormatJSON:
		e := json.NewEncoder(s.Out)
		e.SetEscapeHTML(false)
		e.SetIndent("", "  ")
		return e.Encode(value)
	}
	return &Error{Message: fmt.Sprintf("--format %q is unknown", format), Next: "it is one of " + strings.Join(Formats, ", ")}
}

// bytesText is a size for people: 41.2 MB. Decimal units, as disks and networks have them.
func bytesText(n int64) string {
	switch {
	case n < 0:
		return "-" + bytesText(-n)
	case n < 1000:
		return fmt.Sprintf("%d B", n)
	case n < 1000*1000:
		return fmt.Sprintf("%.1f kB", float64(n)/1e3)
	case n < 1000*1000*1000:
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	default:
		return fmt.Sprintf("%.1f GB", float64(n)/1e9)
	}
}

// countText is a count for people: 1,234,567.
func countText(n int64) string {
	if n < 0 {
		return "-" + countText(-n)
	}
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// plural returns "1 record" or "7 records".
func plural(n int64, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return countText(n) + " " + one + "s"
}

// writeDetails writes one paragraph after the other.
func writeDetails[D interface{ write(w io.Writer) error }](w io.Writer, details []D) error {
	for i, d := range details {
		if i > 0 {
			fmt.Fprintln(w)
		}
		if err := d.write(w); err != nil {
			return err
		}
	}
	return nil
}
