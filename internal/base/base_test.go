package base

import "testing"

func TestTopicIDTextRoundTrips(t *testing.T) {
	t.Parallel()
	for range 1000 {
		id := NewTopicID()
		s := id.String()
		if len(s) != 22 || s[0] == '-' {
			t.Fatalf("text %q: want 22 characters and no leading dash", s)
		}
		got, err := ParseTopicID(s)
		if err != nil || got != id {
			t.Fatalf("ParseTopicID(%q) = %v, %v; want %v", s, got, err, id)
		}
	}
}

func TestParseTopicIDRefusesWhatIsNotAnID(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"", "abc", "!!!!!!!!!!!!!!!!!!!!!!", "4L6g3nShT-eMCtK--X86swAA"} {
		if id, err := ParseTopicID(s); err == nil {
			t.Errorf("ParseTopicID(%q) = %v, want an error", s, id)
		}
	}
}
