package cli

import (
	"fmt"
	"strconv"
	"strings"
)

// Unescape replaces \t, \n, \r, \0, \\ and \xNN, so that a separator can be typed in any shell.
func Unescape(s string) (string, error) {
	if !strings.Contains(s, `\`) {
		return s, nil
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			b.WriteByte(s[i])
			continue
		}
		i++
		if i == len(s) {
			return "", &Error{Message: fmt.Sprintf("%q ends in a single backslash", s)}
		}
		switch s[i] {
		case 't':
			b.WriteByte('\t')
		case 'n':
			b.WriteByte('\n')
		case 'r':
			b.WriteByte('\r')
		case '0':
			b.WriteByte(0)
		case '\\':
			b.WriteByte('\\')
		case 'x':
			if i+2 >= len(s) {
				return "", &Error{Message: fmt.Sprintf(`%q: \x needs two hexadecimal digits`, s)}
			}
			n, err := strconv.ParseUint(s[i+1:i+3], 16, 8)
			if err != nil {
				return "", &Error{Message: fmt.Sprintf(`%q: \x needs two hexadecimal digits`, s)}
			}
			b.WriteByte(byte(n))
			i += 2
		default:
			return "", &Error{Message: fmt.Sprintf(`%q: \%c is unknown`, s, s[i]), Next: `it is one of \t \n \r \0 \\ \xNN`}
		}
	}
	return b.String(), nil
}
