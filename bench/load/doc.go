// Package load makes load on any broker that speaks the Kafka protocol, and times it.
//
// It is made to cost little beside the broker: batches are encoded once and sent again and again, requests are written as two pieces
// (the head of a partition's request and the batch) without copying, answers are read by a fixed layout, and consumers walk from batch
// header to batch header without looking at records. Latencies are counted from when a request was due, not from when it could be sent
// (else a broker that stalls would be asked less, and its stalls would not be seen), and kept in HDR histograms, one for each connection
// and added up at the end.
//
// A load is described by a struct (Produce, Consume, EndToEnd) and run by its Run method, which returns when all of it is answered.
package load
