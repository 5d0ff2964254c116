package config

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// entry is one setting of a file.
type entry struct {
	key, value string
	line       int // of its key, counted from 1
}

// parseProperties reads Java's .properties format: "key=value", "key:value" or "key value" a line, # and ! begin
// comments, a backslash at the end of a line continues it, and \t \n \r \f \uXXXX \x are escapes. Unlike Java it reads
// UTF-8.
func parseProperties(text string) ([]entry, error) {
	if !utf8.ValidString(text) {
		return nil, fmt.Errorf("not UTF-8 text")
	}
	var entries []entry
	lines := splitLines(text)
	for i := 0; i < len(lines); i++ {
		first := i
		line := strings.TrimLeft(lines[i], " \t\f")
		if line == "" || line[0] == '#' || line[0] == '!' {
			continue
		}
		if continues(line) {
			var whole strings.Builder
			for continues(line) && i+1 < len(lines) {
				whole.WriteString(line[:len(line)-1])
				i++
				line = strings.TrimLeft(lines[i], " \t\f")
			}
			whole.WriteString(line)
			line = whole.String()
		}
		rawKey, rawValue := splitProperty(line)
		key, err := unescape(rawKey)
		if err == nil {
			var value string
			if value, err = unescape(rawValue); err == nil {
				entries = append(entries, entry{key, value, first + 1})
				continue
			}
		}
		return entries, fmt.Errorf("line %d: %w", first+1, err)
	}
	return entries, nil
}

// splitLines splits at \n, \r and \r\n.
func splitLines(text string) []string {
	return strings.Split(strings.ReplaceAll(strings.ReplaceAll(text, "\r\n", "\n"), "\r", "\n"), "\n")
}

// continues reports whether line ends in an odd number of backslashes.
func continues(line string) bool {
	n := 0
	for n < len(line) && line[len(line)-1-n] == '\\' {
		n++
	}
	return n%2 == 1
}

// splitProperty splits a line at its first unescaped separator.
func splitProperty(line string) (key, value string) {
	end := 0
	for end < len(line) && !strings.ContainsRune("=: \t\f", rune(line[end])) {
		if line[end] == '\\' {
			end++
		}
		end++
	}
	end = min(end, len(line))
	key, rest := line[:end], strings.TrimLeft(line[end:], " \t\f")
	if rest != "" && (rest[0] == '=' || rest[0] == ':') {
		rest = strings.TrimLeft(rest[1:], " \t\f")
	}
	return key, rest
}

// unescape resolves the escapes of a key or value.
func unescape(s string) (string, error) {
	if !strings.ContainsRune(s, '\\') {
		return s, nil
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			if s[i] != '\\' {
				b.WriteByte(s[i])
			}
			continue
		}
		i++
		switch s[i] {
		case 't':
			b.WriteByte('\t')
		case 'n':
			b.WriteByte('\n')
		case 'r':
			b.WriteByte('\r')
		case 'f':
			b.WriteByte('\f')
		case 'u':
			unit, err := unicodeEscape(s[i+1:])
			if err != nil {
				return "", err
			}
			i += 4
			if utf16.IsSurrogate(unit) && strings.HasPrefix(s[i+1:], `\u`) {
				if low, err := unicodeEscape(s[i+3:]); err == nil {
					if r := utf16.DecodeRune(unit, low); r != utf8.RuneError {
						unit, i = r, i+6
					}
				}
			}
			b.WriteRune(unit)
		default:
			b.WriteByte(s[i])
		}
	}
	return b.String(), nil
}

// unicodeEscape reads four hexadecimal digits.
func unicodeEscape(s string) (rune, error) {
	if len(s) < 4 {
		return 0, fmt.Errorf("malformed \\u escape")
	}
	v, err := strconv.ParseUint(s[:4], 16, 16)
	if err != nil {
		return 0, fmt.Errorf("malformed \\u escape %q", s[:4])
	}
	return rune(v), nil
}
