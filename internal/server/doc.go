// Package server is the composition root: it builds every part of a broker from its settings, starts them in order, connects them, and
// stops them in the reverse order.
//
// Start order: the data folder's lock and identity; the metadata store (embedded etcd) and the image; the storage engine, which recovers
// the log; the group coordinator; the wire server; and, last, the listeners, so that no client comes in before everything can answer.
//
// What connects the parts and belongs to none of them is here too: topicSync applies metadata images to the engine, and offsetsTopic
// shows the coordinators their internal topic.
package server
