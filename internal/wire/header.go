package wire

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	// minFrameBytes is the shortest request header: key, version and correlation id.
	minFrameBytes = 8
	// maxTags bounds the tagged fields of one section (KIP-482), as Kafka 4.4 does.
	maxTags = 10_000

	apiVersionsKey        = int16(kmsg.ApiVersions)
	controlledShutdownKey = int16(kmsg.ControlledShutdown)
)

// flexibleFrom holds, by key, the first version with tagged fields, neverFlexible, or unknownKey.
var flexibleFrom = func() (from [kmsg.MaxKey + 1]int16) {
	for key := range from {
		req := kmsg.RequestForKey(int16(key))
		from[key] = unknownKey
		if req == nil {
			continue
		}
		from[key] = neverFlexible
		for v := int16(0); v <= req.MaxVersion(); v++ {
			req.SetVersion(v)
			if req.IsFlexible() {
				from[key] = v
				break
			}
		}
	}
	return from
}()

const (
	unknownKey    = -1
	neverFlexible = 1<<15 - 1
)

// isFlexible reports whether the version of the API has tagged fields, which decides about both header versions.
func isFlexible(key, version int16) bool { return version >= flexibleFrom[key] }

// KnowsKey reports whether the protocol has an API of that number. Requests for others close their connection.
func KnowsKey(key int16) bool {
	return key >= 0 && int(key) < len(flexibleFrom) && flexibleFrom[key] != unknownKey
}

// requestHeader is a parsed request header of any version.
type requestHeader struct {
	key, version  int16
	correlationID int32
	clientID      []byte // aliases the frame
}

var (
	errShortHeader = errors.New("request header ends early")
	errTooManyTags = fmt.Errorf("more than %d tagged fields or than bytes", maxTags)
)

// parseHeader splits a frame into its header and its body.
//
// The header's version follows from key and version, also where the version is none that is served: an ApiVersions
// request of a version from the future has a header that can be read, and must be answered.
func parseHeader(b []byte) (h requestHeader, body []byte, err error) {
	if len(b) < minFrameBytes {
		return h, nil, errShortHeader
	}
	h.key = int16(binary.BigEndian.Uint16(b))
	h.version = int16(binary.BigEndian.Uint16(b[2:]))
	h.correlationID = int32(binary.BigEndian.Uint32(b[4:]))
	b = b[minFrameBytes:]
	if !KnowsKey(h.key) {
		return h, nil, fmt.Errorf("unknown API key %d", h.key)
	}
	if h.key == controlledShutdownKey && h.version == 0 {
		return h, b, nil // header version 0
	}
	if len(b) < 2 {
		return h, nil, errShortHeader
	}
	n := int(int16(binary.BigEndian.Uint16(b)))
	b = b[2:]
	switch {
	case n < -1:
		return h, nil, fmt.Errorf("client id of %d bytes", n)
	case n > len(b):
		return h, nil, errShortHeader
	case n > 0:
		h.clientID, b = b[:n], b[n:]
	}
	if isFlexible(h.key, h.version) {
		if b, err = skipTags(b); err != nil {
			return h, nil, err
		}
	}
	return h, b, nil
}

// skipTags steps over a section of tagged fields without keeping any.
func skipTags(b []byte) ([]byte, error) {
	count, b, ok := uvarint(b)
	if !ok {
		return nil, errShortHeader
	}
	if count > maxTags || int64(count) > int64(len(b)) {
		return nil, errTooManyTags
	}
	for range count {
		if _, b, ok = uvarint(b); !ok {
			return nil, errShortHeader
		}
		var size uint32
		if size, b, ok = uvarint(b); !ok || int64(size) > int64(len(b)) {
			return nil, errShortHeader
		}
		b = b[size:]
	}
	return b, nil
}

// uvarint reads an unsigned varint of at most 32 bits.
func uvarint(b []byte) (v uint32, rest []byte, ok bool) {
	for i := 0; i < len(b) && i < 5; i++ {
		c := b[i]
		if i == 4 && c > 0x0f {
			return 0, nil, false
		}
		v |= uint32(c&0x7f) << (7 * i)
		if c < 0x80 {
			return v, b[i+1:], true
		}
	}
	return 0, nil, false
}
