package config

import (
	"math"
	"strconv"
	"strings"
)

// trim removes what Java's String.trim does.
func trim(s string) string { return strings.TrimFunc(s, func(r rune) bool { return r <= ' ' }) }

// parseAs reads text as Kafka's ConfigDef does, without looking at the range.
func parseAs(d *Def, text string) (any, error) {
	trimmed := trim(text)
	switch d.Type {
	case Boolean:
		switch {
		case strings.EqualFold(trimmed, "true"):
			return true, nil
		case strings.EqualFold(trimmed, "false"):
			return false, nil
		}
		return nil, invalid(d.Name, text, "Expected value to be either true or false")
	case Int, Short, Long:
		bits := map[Type]int{Short: 16, Int: 32, Long: 64}[d.Type]
		v, err := strconv.ParseInt(trimmed, 10, bits)
		if err != nil {
			return nil, invalid(d.Name, text, "Not a number of type "+d.Type.String())
		}
		return v, nil
	case Double:
		v, err := strconv.ParseFloat(trimmed, 64)
		if err != nil && !math.IsInf(v, 0) || strings.ContainsRune(trimmed, '_') {
			return nil, invalid(d.Name, text, "Not a number of type DOUBLE")
		}
		return v, nil
	case List:
		return splitList(trimmed), nil
	case Class, Password:
		return text, nil
	default:
		return trimmed, nil
	}
}

// splitList splits at commas and removes the blanks around them; the empty text is the empty list.
func splitList(text string) []string {
	if text = trim(text); text == "" {
		return []string{}
	}
	parts := strings.Split(text, ",")
	for i := range parts {
		parts[i] = strings.Trim(parts[i], " \t\n\v\f\r")
	}
	return parts
}

// format returns a parsed value in the form that Kafka shows.
func format(v any) string {
	switch v := v.(type) {
	case bool:
		return strconv.FormatBool(v)
	case int64:
		return strconv.FormatInt(v, 10)
	case float64:
		return formatDouble(v)
	case []string:
		return strings.Join(v, ",")
	default:
		return v.(string)
	}
}

// formatDouble writes a number as Java does: 0.5, 1.0, 1.0E10.
func formatDouble(f float64) string {
	switch {
	case math.IsNaN(f):
		return "NaN"
	case math.IsInf(f, 0):
		return strings.Replace(strconv.FormatFloat(f, 'g', -1, 64), "Inf", "Infinity", 1)[boolInt(f > 0):]
	case f == 0:
		return strconv.FormatFloat(f, 'f', 1, 64)
	case math.Abs(f) >= 1e-3 && math.Abs(f) < 1e7:
		text := strconv.FormatFloat(f, 'f', -1, 64)
		if !strings.Contains(text, ".") {
			text += ".0"
		}
		return text
	}
	mantissa, exponent, _ := strings.Cut(strconv.FormatFloat(f, 'e', -1, 64), "e")
	if !strings.Contains(mantissa, ".") {
		mantissa += ".0"
	}
	sign := ""
	if exponent[0] == '-' {
		sign = "-"
	}
	return mantissa + "E" + sign + strings.TrimLeft(exponent[1:], "0")
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}
