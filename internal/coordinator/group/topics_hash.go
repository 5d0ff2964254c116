package group

import (
	"encoding/binary"
	"slices"
	"unicode/utf16"

	"github.com/zeebo/xxh3"
)

// topicsHash is a number that changes when what matters of the topics changes: ids, partitions, racks (KIP-1101). It is Kafka's number,
// byte for byte: XXH3 over each topic, and over those in order of the topics' names. Topics that do not exist do not count; 0 stands for
// none.
func topicsHash(image TopicImage, names []string) int64 {
	var all []byte
	for _, name := range slices.Sorted(slices.Values(names)) {
		if t, ok := image.Topic(name); ok {
			all = binary.LittleEndian.AppendUint64(all, topicHash(image, t))
		}
	}
	if len(all) == 0 {
		return 0
	}
	return int64(xxh3.Hash(all))
}

func topicHash(image TopicImage, t TopicInfo) uint64 {
	le := binary.LittleEndian
	b := make([]byte, 0, 64+4*int(t.Partitions))
	b = append(b, 0) // of the way the hash is made
	b = le.AppendUint64(b, binary.BigEndian.Uint64(t.ID[:8]))
	b = le.AppendUint64(b, binary.BigEndian.Uint64(t.ID[8:]))
	b = appendJavaString(b, t.Name)
	b = le.AppendUint32(b, uint32(t.Partitions))
	for p := range t.Partitions {
		b = le.AppendUint32(b, uint32(p))
		for _, rack := range image.Racks(t, p) {
			b = le.AppendUint32(b, uint32(javaLength(rack)))
			b = appendJavaString(b, rack)
		}
	}
	return xxh3.Hash(b)
}

// appendJavaString adds a string's UTF-16 units, and their number.
func appendJavaString(b []byte, s string) []byte {
	units := utf16.Encode([]rune(s))
	for _, u := range units {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return binary.LittleEndian.AppendUint32(b, uint32(len(units)))
}
