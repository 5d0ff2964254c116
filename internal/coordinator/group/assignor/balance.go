package assignor

import (
	"cmp"
	"slices"
)

// balance finds who of some members has least and who has most, while the one gets and the other gives.
//
// The members stand in a row by load. From the left a level rises: the members up to low have lowLoad or are about to get it, one after
// the other; when all have, the level goes up and takes in those who are there already. From the right a level falls in the same way,
// between high and top; those right of top are out of it.
type balance struct {
	load []int // by member; changes as partitions are given
	row  []int

	low, lowLoad, nextLow         int
	high, top, highLoad, nextHigh int
}

// begin lines up the members and returns how far their loads are apart.
func (b *balance) begin(members []int) int {
	b.row = append(b.row[:0], members...)
	slices.SortFunc(b.row, func(i, j int) int { return cmp.Or(cmp.Compare(b.load[i], b.load[j]), cmp.Compare(i, j)) })
	n := len(b.row)
	smallest, largest := b.load[b.row[0]], b.load[b.row[n-1]]
	b.low, b.nextLow, b.lowLoad = 0, 0, smallest-1
	b.high, b.top, b.nextHigh, b.highLoad = n, n, n-1, largest+1
	return largest - smallest
}

// least returns the member whose turn it is to get a partition.
func (b *balance) least() int {
	if b.nextLow >= b.low {
		b.lowLoad++
		for b.low < len(b.row) && b.load[b.row[b.low]] == b.lowLoad {
			b.low++
		}
		b.nextLow = 0
	}
	b.nextLow++
	return b.row[b.nextLow-1]
}

// most returns the member whose turn it is to give a partition, or nobody.
func (b *balance) most() int {
	if b.nextHigh < b.high {
		if b.top <= b.high && b.high > 0 {
			b.highLoad = b.load[b.row[b.high-1]] // all who had more are out: the level falls to the next ones
		} else {
			b.highLoad--
		}
		for b.high > 0 && b.load[b.row[b.high-1]] == b.highLoad {
			b.high--
		}
		b.nextHigh = b.top - 1
	}
	if b.nextHigh < 0 {
		return nobody
	}
	b.nextHigh--
	return b.row[b.nextHigh+1]
}

// skip leaves out the member that most returned last.
func (b *balance) skip() {
	at := b.nextHigh + 1
	b.row[at], b.row[b.top-1] = b.row[b.top-1], b.row[at]
	b.top--
}

// even reports whether the levels have met.
func (b *balance) even() bool { return b.highLoad-b.lowLoad <= 1 }
