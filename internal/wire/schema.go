package wire

import (
	_ "embed" // for schemas.txt
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
)

// A request's body is checked against the shape of its version before kmsg decodes it. kmsg checks array counts
// against the bytes that remain, but loops over a count of tagged fields whatever it is, 2³² in the worst case, and
// allocates an array by its count before it sees the elements. The check allocates nothing, and adds up what the
// decoded message can take.
//
// A shape is a word of these letters:
//
//	b h i l u   1, 2, 4, 8 and 16 bytes
//	s S         string, after a length of 2 bytes, compact
//	y Y         bytes, after a length of 4 bytes, compact
//	[x] {x}     array of x, after a count of 4 bytes, compact
//	(…) ?(…)    struct; nullable struct, after a byte that is -1 for null
//	<n:x…>      section of tagged fields, of which it knows number n
//
//go:embed schemas.txt
var schemaText string

// shape is one letter of a schema, or a bracket with what it holds.
type shape struct {
	letter byte
	fixed  int            // bytes, if that is the same for all values, else -1
	cost   int            // bytes of the decoded value, without what hangs on it
	elem   *shape         // [ {
	fields []*shape       // (
	tags   map[int]*shape // <
}

const (
	// elementCost and fieldFactor leave room for fields of other versions, which kmsg's structs have as well.
	elementCost = 64
	fieldFactor = 2
	// messageCost is that of the message itself.
	messageCost = 1 << 10
	// tagCost is that of one tagged field that is not known: an entry of a map.
	tagCost = 160
	// maxElements bounds one array, as Kafka 4.4 does.
	maxElements = 1_000_000
)

var (
	errEndsEarly     = errors.New("body ends early")
	errBadLength     = errors.New("length makes no sense")
	errTooManyInside = fmt.Errorf("array has more than %d elements", maxElements)
	errNoSchema      = errors.New("version is not known")
)

// schemas holds the shapes by key and version. It is parsed on first use.
var schemas = sync.OnceValue(func() map[int16][]*shape {
	all := map[int16][]*shape{}
	for line := range strings.Lines(schemaText) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		var key, low, high int16
		var text, name string
		if _, err := fmt.Sscanf(line, "%d %d-%d %s %s", &key, &low, &high, &text, &name); err != nil {
			panic(fmt.Sprintf("wire: schemas.txt: %q: %v", line, err))
		}
		s, rest := parseShape(text)
		if rest != "" {
			panic(fmt.Sprintf("wire: schemas.txt: %q: trailing %q", line, rest))
		}
		for len(all[key]) <= int(high) {
			all[key] = append(all[key], nil)
		}
		for v := low; v <= high; v++ {
			all[key][v] = s
		}
	}
	return all
})

// schemaFor returns the shape of a request, nil for a version that there is none of.
func schemaFor(key, version int16) *shape {
	versions := schemas()[key]
	if version < 0 || int(version) >= len(versions) {
		return nil
	}
	return versions[version]
}

// parseShape reads one shape off text.
func parseShape(text string) (*shape, string) {
	s := &shape{letter: text[0], fixed: -1}
	rest := text[1:]
	switch s.letter {
	case 'b', 'h', 'i', 'l', 'u':
		s.fixed = map[byte]int{'b': 1, 'h': 2, 'i': 4, 'l': 8, 'u': 16}[s.letter]
		s.cost = max(8, s.fixed)
	case 's', 'S', 'y', 'Y':
		s.cost = 32
	case '[', '{':
		s.elem, rest = parseShape(rest)
		rest = rest[1:]
		s.cost = 24
	case '?':
		s.elem, rest = parseShape(rest)
		s.cost = 8 + s.elem.cost
	case '(':
		s.fixed = 0
		for rest[0] != ')' {
			var f *shape
			f, rest = parseShape(rest)
			s.fields = append(s.fields, f)
			s.cost += f.cost
			if f.fixed < 0 || s.fixed < 0 {
				s.fixed = -1
			} else {
				s.fixed += f.fixed
			}
		}
		rest = rest[1:]
	case '<':
		s.tags = map[int]*shape{}
		s.cost = 8
		for rest[0] != '>' {
			number, after, _ := strings.Cut(rest, ":")
			n, err := strconv.Atoi(number)
			if err != nil {
				panic(fmt.Sprintf("wire: tag %q", number))
			}
			s.tags[n], rest = parseShape(after)
			s.cost += s.tags[n].cost
		}
		rest = rest[1:]
	default:
		panic(fmt.Sprintf("wire: shape %q", text))
	}
	return s, rest
}

// checkBody walks over a request's body and returns what the decoded message may take at most, in bytes.
func checkBody(key, version int16, body []byte) (cost int64, err error) {
	s := schemaFor(key, version)
	if s == nil {
		return 0, errNoSchema
	}
	w := walker{b: body, cost: messageCost}
	if err := w.walk(s); err != nil {
		return 0, err
	}
	return w.cost, nil
}

// walker steps over a body. b is what remains.
type walker struct {
	b    []byte
	cost int64
}

func (w *walker) walk(s *shape) error {
	if s.fixed >= 0 {
		return w.skip(s.fixed)
	}
	switch s.letter {
	case 's', 'S', 'y', 'Y':
		n, err := w.length(s.letter)
		if err != nil || n <= 0 {
			return err
		}
		w.cost += int64(n)
		return w.skip(n)
	case '[', '{':
		return w.walkArray(s)
	case '?':
		if len(w.b) < 1 {
			return errEndsEarly
		}
		null := w.b[0] == 0xff
		w.b = w.b[1:]
		if null {
			return nil
		}
		w.cost += int64(fieldFactor*s.elem.cost) + elementCost
		return w.walk(s.elem)
	case '(':
		for _, f := range s.fields {
			if err := w.walk(f); err != nil {
				return err
			}
		}
		return nil
	case '<':
		return w.walkTags(s)
	}
	panic("wire: shape " + string(s.letter))
}

func (w *walker) walkArray(s *shape) error {
	n, err := w.length(s.letter)
	if err != nil || n <= 0 {
		return err
	}
	if n > maxElements {
		return errTooManyInside
	}
	if n > len(w.b) { // no element is shorter than a byte
		return errEndsEarly
	}
	w.cost += int64(n) * int64(fieldFactor*s.elem.cost+elementCost*min(1, len(s.elem.fields)))
	if s.elem.fixed > 0 {
		return w.skip(n * s.elem.fixed)
	}
	for range n {
		if err := w.walk(s.elem); err != nil {
			return err
		}
	}
	return nil
}

func (w *walker) walkTags(s *shape) error {
	count, rest, ok := uvarint(w.b)
	if !ok {
		return errEndsEarly
	}
	w.b = rest
	if count > maxTags || int64(count) > int64(len(w.b)) {
		return errTooManyTags
	}
	for range count {
		var tag, size uint32
		if tag, w.b, ok = uvarint(w.b); !ok {
			return errEndsEarly
		}
		if size, w.b, ok = uvarint(w.b); !ok || int64(size) > int64(len(w.b)) {
			return errEndsEarly
		}
		known := s.tags[int(tag)]
		if known == nil {
			w.b = w.b[size:]
			w.cost += tagCost
			continue
		}
		inner := walker{b: w.b[:size], cost: w.cost + int64(fieldFactor*known.cost)}
		if err := inner.walk(known); err != nil {
			return err
		}
		w.b, w.cost = w.b[size:], inner.cost
	}
	return nil
}

// length reads the length or count that stands before a value; -1 is null.
func (w *walker) length(letter byte) (int, error) {
	switch letter {
	case 'S', 'Y', '{':
		v, rest, ok := uvarint(w.b)
		if !ok {
			return 0, errEndsEarly
		}
		w.b = rest
		if v > 1<<31-1 {
			return 0, errBadLength
		}
		return int(v) - 1, nil
	case 's':
		if len(w.b) < 2 {
			return 0, errEndsEarly
		}
		n := int(int16(binary.BigEndian.Uint16(w.b)))
		w.b = w.b[2:]
		if n < -1 {
			return 0, errBadLength
		}
		return n, nil
	default:
		if len(w.b) < 4 {
			return 0, errEndsEarly
		}
		n := int(int32(binary.BigEndian.Uint32(w.b)))
		w.b = w.b[4:]
		if n < -1 {
			return 0, errBadLength
		}
		return n, nil
	}
}

func (w *walker) skip(n int) error {
	if n > len(w.b) {
		return errEndsEarly
	}
	w.b = w.b[n:]
	return nil
}
