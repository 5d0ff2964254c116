package api

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottlaio/ottla/internal/base"
	"github.com/ottlaio/ottla/internal/wire"
)

// AlterReplicaLogDirs v1–2 (key 34)
//
//   - There is one folder, and every partition is in it: to move one there is done at once, to move it elsewhere is LOG_DIR_NOT_FOUND,
//     whether or not the partition exists. The folder is compared as DescribeLogDirs shows it, letter by letter.
//   - A partition that is named for two folders is judged by the last of them.
//   - Unlike Kafka, which never keeps order here, the answer has topics and partitions in the order of the request.

var errLogDirNotFound = refuse(kerr.LogDirNotFound, "The folder is not one of this broker's log.dirs.")

func (a *API) alterReplicaLogDirs(_ context.Context, c *call, req *kmsg.AlterReplicaLogDirsRequest) (wire.Pending, error) {
	resp := answer[kmsg.AlterReplicaLogDirsResponse](req)
	view := a.view()
	topics := map[string]int{}                  // to the place in the answer
	partitions := map[base.TopicPartition]int{} // to the place in its topic
	for i := range req.Dirs {
		dir := &req.Dirs[i]
		for j := range dir.Topics {
			topic := dir.Topics[j].Topic
			for _, index := range dir.Topics[j].Partitions {
				at, ok := topics[topic]
				if !ok {
					at = len(resp.Topics)
					topics[topic] = at
					out := kmsg.NewAlterReplicaLogDirsResponseTopic()
					out.Topic = topic
					resp.Topics = append(resp.Topics, out)
				}
				out := &resp.Topics[at]
				id := base.TopicPartition{Topic: topic, Partition: index}
				place, ok := partitions[id]
				if !ok {
					place = len(out.Partitions)
					partitions[id] = place
					p := kmsg.NewAlterReplicaLogDirsResponseTopicPartition()
					p.Partition = index
					out.Partitions = append(out.Partitions, p)
				}
				out.Partitions[place].ErrorCode = a.codeOf(c, view.moveLog(id, dir.Dir))
			}
		}
	}
	return reply(resp)
}

// moveLog judges the folder that a partition is asked to be in.
func (v *view) moveLog(id base.TopicPartition, dir string) error {
	if dir != v.api.config.DataDir {
		return errLogDirNotFound
	}
	_, err := v.partition(id.Topic, id.Partition)
	return err
}
