package api

// api is one row of the table: an API key, the versions of it that are served, and its handler.
type api struct {
	key      int16
	min, max int16
	shownMin int16 // the lowest version that ApiVersions shows, where that is not min; such versions are still refused
	handle   handler
}

// showsFrom marks a row whose shown range begins lower than what is served.
func (r api) showsFrom(version int16) api {
	r.shownMin = version
	return r
}

func serve(key, min, max int16, h handler) api {
	return api{key: key, min: min, max: max, shownMin: min, handle: h}
}

// table is what this broker serves. Dispatch, ApiVersions and docs/protocol.md all read it; a test compares its ranges with what
// Apache Kafka 4.3 shows. A row is here only if its handler works: nothing is advertised before it does.
func table() []api {
	return []api{
		serve(0, 3, 13, (*API).produce).showsFrom(0), // librdkafka takes the lowest version for a sign of an old broker (KAFKA-18659)
		serve(1, 4, 18, (*API).fetch),
		serve(2, 1, 11, typed((*API).listOffsets)),
		serve(3, 0, 13, typed((*API).topicMetadata)),
		serve(8, 2, 10, typed((*API).offsetCommit)),
		serve(9, 1, 10, typed((*API).offsetFetch)),
		serve(10, 0, 6, typed((*API).findCoordinator)),
		serve(11, 0, 9, typed((*API).joinGroup)),
		serve(12, 0, 4, typed((*API).heartbeat)),
		serve(13, 0, 5, typed((*API).leaveGroup)),
		serve(14, 0, 5, typed((*API).syncGroup)),
		serve(15, 0, 6, typed((*API).describeGroups)),
		serve(16, 0, 5, typed((*API).listGroups)),
		serve(18, 0, 4, typed((*API).apiVersions)),
		serve(19, 2, 7, typed((*API).createTopics)),
		serve(20, 1, 6, typed((*API).deleteTopics)),
		serve(21, 0, 2, typed((*API).deleteRecords)),
		serve(22, 0, 5, typed((*API).initProducerID)),
		serve(23, 2, 4, typed((*API).offsetForLeaderEpoch)),
		serve(24, 0, 5, typed((*API).addPartitionsToTxn)),
		serve(25, 0, 4, typed((*API).addOffsetsToTxn)),
		serve(26, 0, 5, typed((*API).endTxn)),
		serve(27, 1, 2, typed((*API).writeTxnMarkers)),
		serve(28, 0, 5, typed((*API).txnOffsetCommit)),
		serve(32, 1, 4, typed((*API).describeConfigs)),
		serve(33, 0, 2, typed((*API).alterConfigs)),
		serve(34, 1, 2, typed((*API).alterReplicaLogDirs)),
		serve(35, 1, 5, typed((*API).describeLogDirs)),
		serve(37, 0, 3, typed((*API).createPartitions)),
		serve(42, 0, 2, typed((*API).deleteGroups)),
		serve(43, 0, 2, typed((*API).electLeaders)),
		serve(44, 0, 1, typed((*API).incrementalAlterConfigs)),
		serve(45, 0, 1, typed((*API).alterPartitionReassignments)),
		serve(46, 0, 0, typed((*API).listPartitionReassignments)),
		serve(47, 0, 0, typed((*API).offsetDelete)),
		serve(55, 0, 2, typed((*API).describeQuorum)),
		serve(57, 0, 2, typed((*API).updateFeatures)),
		serve(60, 0, 2, typed((*API).describeCluster)),
		serve(61, 0, 0, typed((*API).describeProducers)),
		serve(64, 0, 0, typed((*API).unregisterBroker)),
		serve(65, 0, 0, typed((*API).describeTransactions)),
		serve(66, 0, 2, typed((*API).listTransactions)),
		serve(68, 0, 1, typed((*API).consumerGroupHeartbeat)),
		serve(69, 0, 1, typed((*API).consumerGroupDescribe)),
		serve(74, 0, 1, typed((*API).listConfigResources)),
		serve(75, 0, 0, typed((*API).describeTopicPartitions)),
		serve(76, 1, 1, typed((*API).shareGroupHeartbeat)),
		serve(77, 1, 1, typed((*API).shareGroupDescribe)),
		serve(78, 1, 2, typed((*API).shareFetch)),
		serve(79, 1, 2, typed((*API).shareAcknowledge)),
		serve(83, 0, 0, typed((*API).initializeShareGroupState)),
		serve(84, 0, 0, typed((*API).readShareGroupState)),
		serve(85, 0, 1, typed((*API).writeShareGroupState)),
		serve(86, 0, 0, typed((*API).deleteShareGroupState)),
		serve(87, 0, 1, typed((*API).readShareGroupStateSummary)),
		serve(88, 0, 0, typed((*API).streamsGroupHeartbeat)),
		serve(89, 0, 0, typed((*API).streamsGroupDescribe)),
		serve(90, 0, 1, typed((*API).describeShareGroupOffsets)),
		serve(91, 0, 0, typed((*API).alterShareGroupOffsets)),
		serve(92, 0, 0, typed((*API).deleteShareGroupOffsets)),
	}
}
