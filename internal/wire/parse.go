package wire

// ParseRequest parses a frame, without its length field, into a request without a connection: for tests and tools that
// read recorded frames. Body aliases frame.
func ParseRequest(frame []byte) (*Request, error) {
	h, body, err := parseHeader(frame)
	if err != nil {
		return nil, err
	}
	return &Request{
		Key: h.key, Version: h.version, CorrelationID: h.correlationID, ClientID: string(h.clientID), Body: body, Size: len(frame),
	}, nil
}
