package main

// row is a proof: a test that reports to the ledger (see internal/proof), run as a process of its own.
type row struct {
	name string   // as in the ledger, and as an argument of this command
	pkg  string   // folder of the test's package
	test string   // name of the test
	env  []string // beyond what the user has set
	// alone keeps every other row away meanwhile: it measures time.
	alone bool
}

// rows are all proofs but those of planted bugs. A test may report several lines.
var rows = []row{
	{name: "hostile", pkg: "test/hostile", test: "TestHonestClientUnderAttack", alone: true},
	{name: "sigkill", pkg: "test/chaos", test: "TestKillNineLosesNothing"},
	{name: "history-queue", pkg: "test/chaos", test: "TestQueueHistories"},
	{name: "history-transactions", pkg: "test/chaos", test: "TestTransactionHistories"},
	{name: "late-end", pkg: "test/chaos", test: "TestLateEndsEndNothingElse"},
	{name: "power-loss-ext4", pkg: "test/chaos", test: "TestPowerLossOnExt4"},
	{name: "power-loss-xfs", pkg: "test/chaos", test: "TestPowerLossOnXFS"},
	{name: "blocks-ext4", pkg: "test/chaos", test: "TestEveryFlushIsACutOfExt4"},
	{name: "blocks-xfs", pkg: "test/chaos", test: "TestEveryFlushIsACutOfXFS"},
	{name: "power-loss", pkg: "internal/storage", test: "TestNothingAcknowledgedIsLostWhenPowerFails"},
	{name: "compaction", pkg: "internal/storage", test: "TestCompactionKeepsTheNewestOfEachKey"},
	{name: "power-loss-broker", pkg: "internal/server", test: "TestNothingOfTheBrokerIsLostWhenPowerFails"},
	{name: "power-loss-transactions", pkg: "internal/server", test: "TestTransactionsAreWholeWhenPowerFails"},
	{name: "power-loss-groups", pkg: "internal/server", test: "TestGroupsAreKeptWhenPowerFails"},
	{name: "wal-power-loss", pkg: "internal/storage/wal", test: "TestAcknowledgedEntriesSurvivePowerLossAtEveryStep"},
	{name: "coordinator", pkg: "internal/coordinator/group", test: "TestHistories"},
	{name: "share-group", pkg: "internal/coordinator/group", test: "TestShareHistories"},
	{name: "share-state", pkg: "internal/coordinator/sharestate", test: "TestHistories"},
	{name: "coordinator-transactions", pkg: "internal/coordinator/txn", test: "TestHistories"},
	{name: "share-records", pkg: "internal/share", test: "TestHistories"},
	{name: "bit-rot", pkg: "internal/storage", test: "TestFlippedBitsAreFoundOrHarmless"},
	{name: "bit-rot-folder", pkg: "internal/storage", test: "TestEveryBitIsGuarded"},
	{name: "bit-rot-binary", pkg: "test/chaos", test: "TestABitRotsUnderTheRealBinary"},
	{name: "errors-binary", pkg: "test/chaos", test: "TestASystemCallFailsUnderTheRealBinary"},
	{name: "errors", pkg: "internal/storage", test: "TestAnErrorFromEveryCall"},
	{name: "errors-snapshot", pkg: "internal/coordinator", test: "TestAnErrorFromEveryCallOfASnapshot"},
	{name: "full-disk", pkg: "internal/storage", test: "TestAFullDiskAtEveryCall"},
	{name: "files-cut", pkg: "internal/storage", test: "TestEveryFileCutShortOrZeroed"},
}
