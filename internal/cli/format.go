package cli

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Print says how records are written.
type Print struct {
	// Format is text (the value and \n), json (one object a line), or a template with a % in it, see ParseTemplate.
	Format       string
	KeySeparator string // text: write the key and this in front of the value; "" writes no key
	Null         string // text: what stands for a null key or value
	Base64       bool   // keys and values in base64
}

// formatter appends one record to b.
type formatter func(b []byte, r *kgo.Record) []byte

func (p Print) formatter() (formatter, error) {
	switch {
	case p.Format == "" || p.Format == FormatText:
		return p.text, nil
	case p.Format == FormatJSON:
		return p.json, nil
	case strings.Contains(p.Format, "%"):
		return p.template()
	}
	return nil, &Error{Message: fmt.Sprintf("--format %q is unknown", p.Format), Next: `it is text, json, or a template such as '%p:%o %k=%v\n'`}
}

func (p Print) text(b []byte, r *kgo.Record) []byte {
	if p.KeySeparator != "" {
		b = append(p.bytes(b, r.Key), p.KeySeparator...)
	}
	return append(p.bytes(b, r.Value), '\n')
}

func (p Print) bytes(b, data []byte) []byte {
	switch {
	case data == nil:
		return append(b, p.Null...)
	case p.Base64:
		return base64.StdEncoding.AppendEncode(b, data)
	}
	return append(b, data...)
}

// json appends an object on one line. Bytes that are not UTF-8 go into "key_base64" and "value_base64" instead of "key" and "value", so
// that every record can be put together again from what is written.
func (p Print) json(b []byte, r *kgo.Record) []byte {
	b = append(b, `{"topic":`...)
	b = appendJSONString(b, r.Topic)
	b = append(b, `,"partition":`...)
	b = strconv.AppendInt(b, int64(r.Partition), 10)
	b = append(b, `,"offset":`...)
	b = strconv.AppendInt(b, r.Offset, 10)
	b = append(b, `,"timestamp":`...)
	b = strconv.AppendInt(b, r.Timestamp.UnixMilli(), 10)
	b = p.jsonField(append(b, ','), "key", r.Key)
	b = p.jsonField(append(b, ','), "value", r.Value)
	if len(r.Headers) > 0 {
		b = append(b, `,"headers":[`...)
		for i, h := range r.Headers {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(b, `{"key":`...)
			b = appendJSONString(b, h.Key)
			b = append(p.jsonField(append(b, ','), "value", h.Value), '}')
		}
		b = append(b, ']')
	}
	return append(b, '}', '\n')
}

func (p Print) jsonField(b []byte, name string, data []byte) []byte {
	b = append(append(b, '"'), name...)
	switch {
	case data == nil:
		return append(b, `":null`...)
	case p.Base64 || !utf8.Valid(data):
		b = append(b, `_base64":"`...)
		return append(base64.StdEncoding.AppendEncode(b, data), '"')
	}
	return appendJSONString(append(b, `":`...), data)
}

// appendJSONString appends s, which is UTF-8, as a JSON string with nothing escaped that need not be.
func appendJSONString[S []byte | string](b []byte, s S) []byte {
	const digits = "0123456789abcdef"
	b = append(b, '"')
	begin := 0
	for i := range len(s) {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		b = append(b, s[begin:i]...)
		begin = i + 1
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, '\\', 'n')
		case '\r':
			b = append(b, '\\', 'r')
		case '\t':
			b = append(b, '\\', 't')
		default:
			b = append(b, '\\', 'u', '0', '0', digits[c>>4], digits[c&15])
		}
	}
	return append(append(b, s[begin:]...), '"')
}

// template makes a formatter of a template: rpk's letters, which are those of the client library, and kcat's where they do not clash.
//
//	%k %v     key, value; %s is the value too
//	%K %V     their lengths; %S is the value's too
//	%t %p %o  topic, partition, offset
//	%T %d     timestamp in Unix milliseconds
//	%h        headers as k=v,k=v
//	%%        a percent sign; \n \t \r \\ \xNN as usual
//
// A letter may be followed by braces that say more, as in %d{go[2006-01-02]}, %v{base64}, %h{%k=%v;}; see NewRecordFormatter of
// franz-go's kgo.
func (p Print) template() (formatter, error) {
	var parts []formatter
	begin := 0
	flush := func(layout string) error {
		if layout == "" {
			return nil
		}
		f, err := kgo.NewRecordFormatter(layout)
		if err != nil {
			return &Error{Message: fmt.Sprintf("--format %q: %v", p.Format, err), Next: "`ottla consume --help` lists the letters"}
		}
		parts = append(parts, func(b []byte, r *kgo.Record) []byte { return f.AppendRecord(b, r) })
		return nil
	}
	var layout strings.Builder
	t := p.Format
	for i := 0; i < len(t); i++ {
		if t[i] != '%' || i+1 == len(t) {
			continue
		}
		layout.WriteString(t[begin:i])
		i++
		plain := i+1 == len(t) || t[i+1] != '{'
		begin = i + 1
		switch {
		case t[i] == 's':
			layout.WriteString("%v")
		case t[i] == 'S':
			layout.WriteString("%V")
		case t[i] == 'T' && plain:
			layout.WriteString("%d")
		case t[i] == 'h' && plain:
			if err := flush(layout.String()); err != nil {
				return nil, err
			}
			layout.Reset()
			parts = append(parts, appendHeaders)
		default:
			layout.WriteString(t[i-1 : i+1])
		}
		if !plain && t[i] != '{' && t[i] != '}' && t[i] != '%' {
			// What is in the braces has a language of its own.
			end := closing(t, i+1)
			layout.WriteString(t[i+1 : end])
			begin, i = end, end-1
		}
	}
	layout.WriteString(t[begin:])
	if err := flush(layout.String()); err != nil {
		return nil, err
	}
	return func(b []byte, r *kgo.Record) []byte {
		if p.Base64 {
			encoded := *r
			encoded.Key, encoded.Value = p.bytes(nil, r.Key), p.bytes(nil, r.Value)
			r = &encoded
		}
		for _, part := range parts {
			b = part(b, r)
		}
		return b
	}, nil
}

// closing returns the index behind the brace that closes the one at open, or len(t).
func closing(t string, open int) int {
	depth := 0
	for i := open; i < len(t); i++ {
		switch t[i] {
		case '{':
			depth++
		case '}':
			if depth--; depth == 0 {
				return i + 1
			}
		}
	}
	return len(t)
}

func appendHeaders(b []byte, r *kgo.Record) []byte {
	for i, h := range r.Headers {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(b, h.Key...), '=')
		b = append(b, h.Value...)
	}
	return b
}
