package wal

// committerSet holds whom to tell, each once, in the order of their first entries. Its memory is used again.
type committerSet struct {
	list []Committer
	seen map[Committer]struct{} // of list, once it is long
}

// linearCommitters is how many are compared one by one before a map is worth its cost.
const linearCommitters = 8

func (s *committerSet) add(c Committer) {
	if c == nil {
		return
	}
	if len(s.list) <= linearCommitters {
		for _, have := range s.list {
			if have == c {
				return
			}
		}
		s.list = append(s.list, c)
		return
	}
	if len(s.seen) == 0 {
		if s.seen == nil {
			s.seen = map[Committer]struct{}{}
		}
		for _, have := range s.list {
			s.seen[have] = struct{}{}
		}
	}
	if _, ok := s.seen[c]; !ok {
		s.seen[c] = struct{}{}
		s.list = append(s.list, c)
	}
}

func (s *committerSet) reset() {
	clear(s.list)
	s.list = s.list[:0]
	clear(s.seen)
}

func (s *committerSet) tell(seq Sequence) {
	for _, c := range s.list {
		c.Committed(seq)
	}
}
