package segment

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/record"
	"github.com/ottlaio/ottla/internal/storage/disk"
)

// golden is the folder of a partition as Apache Kafka 4.3.1 left it after a clean stop: an idempotent producer with timestamps that
// step back, segment.ms=100000, two segments.
const golden = "testdata/kafka-4.3.1/golden-0"

func goldenFile(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(golden, name))
	must(t, err)
	return b
}

// TestFilesAreKafkasForTheSameBatches writes the batches of Kafka's own log and compares all of its files.
func TestFilesAreKafkasForTheSameBatches(t *testing.T) {
	t.Parallel()
	for _, baseOffset := range []base.Offset{0, 103} {
		o := memory(t, baseOffset)
		data := goldenFile(t, FileName(baseOffset, logSuffix))
		var metas []BatchMeta
		for h, err := range record.Headers(data) {
			must(t, err)
			metas = append(metas, metaOf(h))
		}
		s := Create(o)
		must(t, s.Write(data, metas))
		must(t, s.Seal())
		for _, suffix := range []string{logSuffix, indexSuffix, timeIndexSuffix} {
			name := FileName(baseOffset, suffix)
			if got, want := readFile(t, o, suffix), goldenFile(t, name); !bytes.Equal(got, want) {
				t.Errorf("%s differs from Kafka's:\n%x\nwant\n%x", name, got, want)
			}
		}
	}
}

func TestTextFilesAndSnapshotsAreKafkas(t *testing.T) {
	t.Parallel()
	fs := disk.Default()
	epochs, err := ReadLeaderEpochs(fs, golden)
	must(t, err)
	if len(epochs) != 1 || epochs[0] != (EpochStart{0, 0}) {
		t.Errorf("epochs %+v", epochs)
	}
	id, err := ReadPartitionMetadata(fs, golden)
	must(t, err)
	snapshot, err := ReadProducerSnapshot(fs, golden, 156)
	must(t, err)
	if len(snapshot) != 1 || snapshot[0].LastOffset != 155 || snapshot[0].CurrentTxnFirst != base.NoOffset {
		t.Errorf("snapshot %+v", snapshot)
	}

	o := memory(t, 0)
	must(t, WriteLeaderEpochs(o.FS, o.Dir, epochs))
	must(t, WritePartitionMetadata(o.FS, o.Dir, id))
	must(t, WriteProducerSnapshot(o.FS, o.Dir, 156, snapshot))
	for _, name := range []string{LeaderEpochFile, PartitionMetadataFile, FileName(156, snapshotSuffix)} {
		f, err := o.FS.Open(o.FS.PathJoin(o.Dir, name))
		must(t, err)
		want := goldenFile(t, name)
		got := make([]byte, len(want)+1)
		n, _ := f.ReadAt(got, 0)
		must(t, f.Close())
		if !bytes.Equal(got[:n], want) {
			t.Errorf("%s is %q, want %q", name, got[:n], want)
		}
	}
	if _, err := ReadProducerSnapshot(o.FS, o.Dir, 1); !isNotExist(err) {
		t.Errorf("a snapshot that is not there: %v", err)
	}
	must(t, RemoveProducerSnapshot(o.FS, o.Dir, 156))
	must(t, RemoveProducerSnapshot(o.FS, o.Dir, 156))
}

// TestSidecarGoldenBytes holds our own format still: changing it needs a new version.
func TestSidecarGoldenBytes(t *testing.T) {
	t.Parallel()
	o := memory(t, 103)
	s := Create(o)
	data := bytes.Repeat([]byte{1, 2, 3, 4, 5, 6, 7, 8}, 70_000/8)
	must(t, s.Write(data, []BatchMeta{{FirstOffset: 103, LastOffset: 110, Size: int32(len(data)), MaxTimestamp: 1_700_000_000_000, OffsetOfMax: 105}}))
	must(t, s.Seal())
	path := "testdata/sidecar-v1.crc"
	got := readFile(t, o, sidecarSuffix)
	want, err := os.ReadFile(path)
	must(t, err)
	if !bytes.Equal(got, want) {
		t.Errorf("the sidecar is\n%x\nwant\n%x", got, want)
	}
}
