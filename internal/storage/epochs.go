package storage

import (
	"sort"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/plant"
	"github.com/ottlaio/ottla/internal/storage/segment"
)

// epochCache is a partition's history of leader epochs (KIP-101): where each began, both rising. It is not safe for
// concurrent use.
type epochCache []segment.EpochStart

// latest is the newest epoch, or NoLeaderEpoch.
func (c epochCache) latest() base.LeaderEpoch {
	if len(c) == 0 {
		return base.NoLeaderEpoch
	}
	return c[len(c)-1].Epoch
}

// assign notes that epoch begins at start. Epochs in which nothing was appended give way to it. An epoch that is not newer
// than the latest changes nothing.
func (c epochCache) assign(epoch base.LeaderEpoch, start base.Offset) epochCache {
	if epoch <= c.latest() {
		return c
	}
	for len(c) > 0 && c[len(c)-1].Start >= start {
		c = c[:len(c)-1]
	}
	if plant.On(plant.EpochOffByOne) {
		start++
	}
	return append(c, segment.EpochStart{Epoch: epoch, Start: start})
}

// truncateStart forgets epochs that ended at or before start; the one that holds start begins there from now on.
func (c epochCache) truncateStart(start base.Offset) epochCache {
	i := sort.Search(len(c), func(i int) bool { return c[i].Start > start })
	if i == 0 {
		return c
	}
	kept := append(epochCache(nil), c[i-1:]...)
	kept[0].Start = start
	return kept
}

// end answers OffsetForLeaderEpoch as Kafka's LeaderEpochFileCache.endOffsetFor does; end is the log end offset.
func (c epochCache) end(epoch base.LeaderEpoch, logEnd base.Offset) (base.LeaderEpoch, base.Offset) {
	switch {
	case epoch == base.NoLeaderEpoch:
		return base.NoLeaderEpoch, base.NoOffset
	case epoch == c.latest():
		return epoch, logEnd
	}
	higher := sort.Search(len(c), func(i int) bool { return c[i].Epoch > epoch })
	switch {
	case higher == len(c):
		return base.NoLeaderEpoch, base.NoOffset
	case higher == 0:
		return epoch, c[0].Start // older than anything known: whatever it held ended before the first known epoch
	}
	return c[higher-1].Epoch, c[higher].Start
}

// at is the epoch that holds offset, or NoLeaderEpoch.
func (c epochCache) at(offset base.Offset) base.LeaderEpoch {
	i := sort.Search(len(c), func(i int) bool { return c[i].Start > offset })
	if i == 0 {
		return base.NoLeaderEpoch
	}
	return c[i-1].Epoch
}
