package assignor

// Uniform spreads the partitions evenly, and leaves members what they have as far as it can.
func Uniform(g *Group) []Assignment {
	if len(g.Members) == 0 {
		return nil
	}
	if g.Alike {
		return uniformAlike(g)
	}
	return uniformUnlike(g)
}

// place is one partition.
type place struct {
	topic     int
	partition int32
}

// uniformAlike is Uniform for members that subscribe to the same topics. Everybody has a quota: the partitions divided by the members,
// and one more for as many as the remainder says. Members give back what is beyond their quota, and what nobody has then fills up those
// that are below theirs, in order.
func uniformAlike(g *Group) []Assignment {
	topics := g.Members[0].Topics
	subscribed := make([]bool, len(g.Topics))
	total := 0
	for _, t := range topics {
		subscribed[t] = true
		total += int(g.Topics[t].Partitions)
	}
	index := g.index()
	owned := newOwners(g.Topics)
	var given []place // back
	type wanting struct{ member, quota int }
	var below []wanting

	before := newOwners(g.Topics)
	for i := range g.Members {
		for _, a := range g.Members[i].Assigned {
			if t, ok := index[a.Topic]; ok {
				for _, p := range a.Partitions {
					if p < g.Topics[t].Partitions {
						before[t][p] = i
					}
				}
			}
		}
	}

	quotaOfAll, extras := total/len(g.Members), total%len(g.Members)
	for i := range g.Members {
		quota, extra := quotaOfAll, extras > 0
		if extra {
			quota++
		}
		for _, a := range g.Members[i].Assigned {
			t, ok := index[a.Topic]
			if !ok || !subscribed[t] {
				continue
			}
			for _, p := range a.Partitions {
				switch {
				case p >= g.Topics[t].Partitions || before[t][p] != i:
				case quota > 0:
					quota--
					owned[t][p] = i
				default:
					given = append(given, place{t, p})
				}
			}
		}
		if quota > 0 && extra && len(g.Members)-i > extras {
			// It need not have the extra one: enough members come after it.
			quota, extra = quota-1, false
		}
		if extra {
			extras--
		}
		if quota > 0 {
			below = append(below, wanting{i, quota})
		}
	}

	// Nobody has: first what nobody had before, then what was given back.
	var free []place
	for _, t := range topics {
		for p, owner := range before[t] {
			if owner == nobody {
				free = append(free, place{t, int32(p)})
			}
		}
	}
	free = append(free, given...)
	for _, w := range below {
		n := min(w.quota, len(free))
		for _, at := range free[:n] {
			owned[at.topic][at.partition] = w.member
		}
		free = free[n:]
	}
	return owned.assignments(g)
}
