package api

import (
	"github.com/twmb/franz-go/pkg/kbin"
)

// appendAnswer encodes the answer. kmsg allocates for each partition of it, so answers without errors, which nearly all are, are
// encoded here.
func (p *producing) appendAnswer(dst []byte) []byte {
	if p.failed || len(p.resp.Brokers) > 0 {
		return p.resp.AppendTo(dst)
	}
	version := p.resp.Version
	flexible := version >= 9
	dst = appendArrayLen(dst, flexible, len(p.resp.Topics))
	for i := range p.resp.Topics {
		topic := &p.resp.Topics[i]
		switch {
		case version >= 13:
			dst = kbin.AppendUuid(dst, topic.TopicID)
		case flexible:
			dst = kbin.AppendCompactString(dst, topic.Topic)
		default:
			dst = kbin.AppendString(dst, topic.Topic)
		}
		dst = appendArrayLen(dst, flexible, len(topic.Partitions))
		for j := range topic.Partitions {
			part := &topic.Partitions[j]
			dst = kbin.AppendInt32(dst, part.Partition)
			dst = kbin.AppendInt16(dst, 0)
			dst = kbin.AppendInt64(dst, part.BaseOffset)
			dst = kbin.AppendInt64(dst, part.LogAppendTime)
			if version >= 5 {
				dst = kbin.AppendInt64(dst, part.LogStartOffset)
			}
			if version >= 8 { // no record errors, no message
				dst = appendArrayLen(dst, flexible, 0)
				if flexible {
					dst = kbin.AppendCompactNullableString(dst, nil)
				} else {
					dst = kbin.AppendNullableString(dst, nil)
				}
			}
			dst = appendNoTags(dst, flexible)
		}
		dst = appendNoTags(dst, flexible)
	}
	dst = kbin.AppendInt32(dst, 0) // throttle time
	return appendNoTags(dst, flexible)
}

func appendArrayLen(dst []byte, flexible bool, n int) []byte {
	if flexible {
		return kbin.AppendCompactArrayLen(dst, n)
	}
	return kbin.AppendArrayLen(dst, n)
}

func appendNoTags(dst []byte, flexible bool) []byte {
	if flexible {
		return append(dst, 0)
	}
	return dst
}
