package scrub

import (
	"path/filepath"

	"github.com/ottlaio/ottla/internal/record"
	"github.com/ottlaio/ottla/internal/storage"
	"github.com/ottlaio/ottla/internal/storage/disk"
)

// exportLimit bounds what one batch may unfold to.
const exportLimit = 1 << 30

// Aside is a file of what was set aside.
type Aside struct {
	Name        string `json:"name"`
	TopicID     string `json:"topic_id"`
	Partition   int32  `json:"partition"`
	What        string `json:"what"` // "damaged range" or "unknown topic"
	FirstOffset int64  `json:"first_offset"`
	LastOffset  int64  `json:"last_offset"`
	Bytes       int64  `json:"bytes"`
	Batches     int    `json:"whole_batches"`
	Damaged     bool   `json:"damaged,omitempty"` // the file itself
}

// List lists what was set aside in a data folder, by name. A broker may run on it.
func List(data string) ([]Aside, error) {
	files, err := storage.ListAside(disk.Default(), data)
	list := make([]Aside, 0, len(files))
	for _, f := range files {
		a := Aside{
			Name: f.Name, TopicID: f.Partition.ID.String(), Partition: f.Partition.Partition, What: "unknown topic",
			FirstOffset: int64(f.FirstOffset), LastOffset: int64(f.LastOffset), Bytes: f.Bytes, Batches: f.Batches, Damaged: f.Bad,
		}
		if f.Damaged {
			a.What = "damaged range"
		}
		list = append(list, a)
	}
	return list, err
}

// ErrDamaged is wrapped by the error for a file of what was set aside that is damaged itself.
var ErrDamaged = storage.ErrDamage

// Record is a record as it was set aside.
type Record struct {
	TopicID   string
	Partition int32
	Offset    int64
	Timestamp int64 // ms
	Key       []byte
	Value     []byte
	Headers   []record.RecordHeader
}

// Export gives every record that is whole in a file that List has named to yield; control records are left out. With ErrDamaged what comes
// before the damage was given.
func Export(data, name string, yield func(Record) error) error {
	name = filepath.Base(name)
	id, err := storage.AsidePartition(name)
	if err != nil {
		return err
	}
	return storage.ReadAside(disk.Default(), data, name, func(batch []byte) error {
		h, err := record.ParseHeader(batch)
		if err != nil || h.Attributes.Control() {
			return err
		}
		for r, err := range record.Records(batch, exportLimit) {
			if err == nil {
				err = yield(Record{
					TopicID: id.ID.String(), Partition: id.Partition, Offset: int64(r.Offset), Timestamp: r.Timestamp,
					Key: r.Key, Value: r.Value, Headers: r.Headers,
				})
			}
			if err != nil {
				return err
			}
		}
		return nil
	}, nil)
}
