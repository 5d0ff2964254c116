package metadata

import "strings"

// maxTopicNameLength is Kafka's (Topic.MAX_NAME_LENGTH).
const maxTopicNameLength = 249

// ValidateTopicName checks a name as Kafka's Topic.validate does.
//
// Errors: *Error with ErrInvalidTopicName.
func ValidateTopicName(name string) error {
	bad := func(reason string) error {
		return &Error{Kind: ErrInvalidTopicName, Message: "Topic name is invalid: " + reason}
	}
	switch {
	case name == "":
		return bad("the empty string is not allowed")
	case name == ".", name == "..":
		return bad("'" + name + "' is not allowed")
	case len(name) > maxTopicNameLength:
		return bad("the length of '" + name + "' is longer than the max allowed length 249")
	}
	for i := range len(name) {
		if !plainByte(name[i]) {
			return bad("'" + name + "' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'")
		}
	}
	return nil
}

// collisionKey is what two names that collide in metric names have in common: Kafka writes a dot as an underscore there. ok is
// false for names that cannot collide.
func collisionKey(name string) (key string, ok bool) {
	if !strings.ContainsAny(name, "._") {
		return "", false
	}
	return strings.ReplaceAll(name, ".", "_"), true
}
