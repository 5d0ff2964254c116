package group

import "encoding/binary"

// subscribedTopics reads the topics out of a ConsumerProtocolSubscription. Every version of it begins as version 0 does: a version,
// an array of topic names, user data.
func subscribedTopics(b []byte) ([]string, bool) {
	if len(b) < 6 || int16(binary.BigEndian.Uint16(b)) < 0 {
		return nil, false
	}
	n := int32(binary.BigEndian.Uint32(b[2:]))
	b = b[6:]
	if n < 0 || int64(n) > int64(len(b)/2) {
		return nil, false
	}
	topics := make([]string, 0, n)
	for range n {
		if len(b) < 2 {
			return nil, false
		}
		size := int(int16(binary.BigEndian.Uint16(b)))
		if b = b[2:]; size < 0 || size > len(b) {
			return nil, false
		}
		topics = append(topics, string(b[:size]))
		b = b[size:]
	}
	if len(b) < 4 { // the length of the user data
		return nil, false
	}
	if size := int64(int32(binary.BigEndian.Uint32(b))); size > int64(len(b)-4) {
		return nil, false
	}
	return topics, true
}
