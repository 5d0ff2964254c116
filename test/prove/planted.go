package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ottlaio/ottla/internal/plant"
	"github.com/ottlaio/ottla/internal/proof"
	"github.com/ottlaio/ottla/test/chaos/history"
)

// planted is the name of the rows of planted bugs, as an argument of this command.
const planted = "planted"

// trap is a row, made short, that catches a planted bug every time.
type trap struct {
	row   string
	times int // TIMES; the row's own choice if 0
}

// caughtBy says which rows catch which planted bug every time, the cheapest first. None was written for a bug.
var caughtBy = map[plant.Bug][]trap{
	plant.AckEarly:                 {{"power-loss", 60}},
	plant.SkipWALSync:              {{"power-loss", 60}, {"blocks-ext4", 12}},
	plant.SkipWALFolderSync:        {{"power-loss", 60}},
	plant.RecycledGroup:            {{"wal-power-loss", 20}},
	plant.NoRunCRC:                 {{"wal-power-loss", 20}},
	plant.DamageIsTorn:             {{"bit-rot", 0}},
	plant.SkipSegmentSync:          {{"power-loss", 150}},
	plant.NoBlockCRC:               {{"bit-rot", 0}},
	plant.NoCarry:                  {{"power-loss", 150}},
	plant.BodyUnsynced:             {{"power-loss", 60}},
	plant.BodyUnchecked:            {{"bit-rot", 0}},
	plant.BodyElsewhere:            {{"power-loss", 60}},
	plant.BodyRewritten:            {{"power-loss", 150}},
	plant.RunGap:                   {{"power-loss", 150}},
	plant.RunEndShort:              {{"power-loss", 60}},
	plant.ReleaseEarly:             {{"power-loss", 300}},
	plant.SkipCheckpointFolderSync: {{"power-loss", 300}},
	plant.ReplayTooLate:            {{"power-loss", 150}},
	plant.NoProducerReplay:         {{"power-loss", 60}},
	plant.ProducersOfNow:           {{"power-loss", 150}},
	plant.DuplicateEarly:           {{"power-loss", 150}},
	plant.VisibleEarly:             {{"power-loss", 60}},
	plant.EpochOffByOne:            {{"power-loss", 60}},
	plant.LostEpochs:               {{"power-loss", 150}},
	plant.LostLogStart:             {{"power-loss", 150}},
	plant.NoCarryReplay:            {{"power-loss", 300}},
	plant.SkipCheckpointSync:       {{"power-loss", 300}},
	plant.NoCheckpointCRC:          {{"bit-rot", 0}},
	plant.SkipSegmentFolderSync:    {{"power-loss", 300}},
	plant.SkipSyncAll:              {{"power-loss", 300}},
	plant.UnlinkEarly:              {{"power-loss", 300}},
	plant.RetainTooLittle:          {{"power-loss-broker", 500}},
	plant.UnloggedLogStart:         {{"power-loss", 150}},
	plant.DeleteTooMany:            {{"power-loss-broker", 100}},
	plant.UnstampedEpoch:           {{"power-loss", 60}},
	plant.AcceptDuplicates:         {{"power-loss", 60}, {"history-queue", 12}},
	plant.IndexTooFar:              {{"sigkill", 6}},
	plant.ListEndShort:             {{"sigkill", 6}},
	plant.AnswerEarly:              {{"coordinator", 20}, {"coordinator-transactions", 600}},
	plant.KeepRefusedState:         {{"coordinator", 20}, {"coordinator-transactions", 600}},
	plant.SnapshotOneLate:          {{"coordinator", 200}},
	plant.ShareStateUnfenced:       {{"share-state", 40}},
	plant.ShareUnkept:              {{"share-group", 100}},
	plant.ShareStartForgotten:      {{"history-queue", 12}},
	plant.NothingForMembers:        {{"history-queue", 12}},
	plant.PruneSnapshot:            {{"share-state", 40}},
	plant.FirstOffsetWins:          {{"coordinator", 20}, {"history-queue", 12}},
	plant.TaskTwice:                {{"coordinator", 40}},
	plant.LeaverUnnoticed:          {{"coordinator", 40}},
	plant.NoTombstone:              {{"power-loss-broker", 100}},
	plant.AnswerBeforeImage:        {{"power-loss-broker", 500}},
	plant.TrustCounts:              {{"hostile", 1000}},
	plant.NoDecompressLimit:        {{"hostile", 1000}},
	plant.FrameMemoryKept:          {{"hostile", 1000}},
	plant.DuplicateElsewhere:       {{"history-queue", 12}},
	plant.DuplicateOneOff:          {{"history-queue", 12}},
	plant.GapInReplay:              {{"history-queue", 12}},
	plant.LaggingHighWatermark:     {{"history-queue", 12}},
	plant.SkippedRead:              {{"history-queue", 12}},
	plant.EndOutOfRange:            {{"history-queue", 12}},
	plant.HideAborts:               {{"history-transactions", 10}},
	plant.ReadOpen:                 {{"history-transactions", 10}},
	plant.TornEnd:                  {{"history-transactions", 10}},
	plant.DropNewest:               {{"compaction", 12}},
	plant.TombstoneEarly:           {{"compaction", 12}},
	plant.CleanedTooFar:            {{"compaction", 12}},
	plant.SwapNotLogged:            {{"compaction", 12}},
	plant.AcceptForgotten:          {{"share-records", 0}},
	plant.EternalLock:              {{"share-records", 0}},
	plant.DeliveryUncounted:        {{"share-records", 0}},
	plant.AckNotOwned:              {{"share-records", 0}},
	plant.ShareAckEarly:            {{"power-loss-groups", 600}},
	plant.LoadShort:                {{"power-loss-groups", 600}},
	plant.EpochKept:                {{"coordinator-transactions", 600}, {"late-end", 12}},
	plant.AbortDecided:             {{"coordinator-transactions", 600}},
	plant.EndForgotten:             {{"coordinator-transactions", 600}},
	plant.EndedTwice:               {{"coordinator-transactions", 600}},
	plant.MarkerOfFormerEpoch:      {{"coordinator-transactions", 600}},
	plant.MarkerGivenUp:            {{"coordinator-transactions", 600}},
	plant.LateEndTaken:             {{"coordinator-transactions", 600}, {"late-end", 12}},
	plant.NotFenced:                {{"coordinator-transactions", 600}},
	plant.LaggardUnfenced:          {{"coordinator-transactions", 600}},
	plant.GenerationKept:           {{"coordinator", 400}},
	plant.PartitionTwice:           {{"coordinator", 400}},
	plant.SilenceGivesBack:         {{"coordinator", 400}},
	plant.LeaverKeeps:              {{"coordinator", 400}},
	plant.TargetOfLeaver:           {{"coordinator", 400}},
	plant.TargetLost:               {{"coordinator", 400}},
	plant.EpochAhead:               {{"coordinator", 400}},
	plant.StaticUnfenced:           {{"coordinator", 400}},
	plant.LastStableEarly:          {{"power-loss", 150}},
	plant.AbortNotIndexed:          {{"power-loss", 150}},
	plant.OpenForgotten:            {{"power-loss", 150}},
}

// namedBy is the anomaly that rows of histories must report of a bug: if such a row fails by something else, it has not caught it.
var namedBy = map[plant.Bug]history.Anomaly{
	plant.AcceptDuplicates:     history.Duplicate,
	plant.DuplicateElsewhere:   history.NonmonotonicSend,
	plant.DuplicateOneOff:      history.InconsistentOffsets,
	plant.GapInReplay:          history.LostWrite,
	plant.LaggingHighWatermark: history.Unseen,
	plant.SkippedRead:          history.PollSkip,
	plant.EndOutOfRange:        history.NonmonotonicPoll,
	plant.FirstOffsetWins:      history.LostCommit,
	plant.ShareStartForgotten:  history.LostAccept,
	plant.NothingForMembers:    history.LostCommit,
	plant.HideAborts:           history.AbortedRead,
	plant.ReadOpen:             history.PrecommittedRead,
	plant.TornEnd:              history.TornTransaction,
}

// plantedSeed is that of all runs with planted bugs: what was caught once is caught again.
const plantedSeed = "SEED=1"

// runPlanted runs rows with bugs planted in the code that they are about, and requires that each fails; and that the same runs hold in
// the same build with nothing planted.
func runPlanted(ctx context.Context, r *runner, l *ledger) {
	var jobs, alone []func() proof.Line
	var tried []trap
	for _, bug := range plant.Bugs {
		traps := caughtBy[bug]
		if len(traps) == 0 {
			l.add(proof.Line{Row: "planted " + string(bug), State: proof.Failed, Note: "no row is named for it"})
		}
		for _, t := range traps {
			to := &jobs
			if rowOf(t).alone {
				to = &alone
			}
			*to = append(*to, func() proof.Line { return r.plant(ctx, bug, t) })
			if !slices.Contains(tried, t) {
				tried = append(tried, t)
				*to = append(*to, func() proof.Line { return r.plant(ctx, "", t) })
			}
		}
	}
	queue := make(chan func() proof.Line)
	var workers sync.WaitGroup
	for range parallel {
		workers.Go(func() {
			for job := range queue {
				if line := job(); ctx.Err() == nil {
					l.add(line)
				}
			}
		})
	}
	for _, job := range jobs {
		queue <- job
	}
	close(queue)
	workers.Wait()
	for _, job := range alone {
		if line := job(); ctx.Err() == nil {
			l.add(line)
		}
	}
}

func rowOf(t trap) row {
	return rows[slices.IndexFunc(rows, func(w row) bool { return w.name == t.row })]
}

// plant runs a trap with a bug planted, or with none.
func (r *runner) plant(ctx context.Context, bug plant.Bug, t trap) proof.Line {
	began := time.Now()
	env := []string{"OTTLA_PLANT=" + string(bug), plantedSeed}
	if t.times > 0 {
		env = append(env, fmt.Sprintf("TIMES=%d", t.times))
	}
	got := r.run(ctx, rowOf(t), env...)
	line := proof.Line{Row: "planted " + string(bug), Tried: "run of " + t.row, Times: 1, Seed: 1, State: proof.Failed}
	var caught bool
	line.Note, caught = verdictOf(got)
	if caught && strings.HasPrefix(t.row, "history-") {
		line.Note, caught = "no anomalies named", false
		if found := anomaliesLine.FindStringSubmatch(string(got.output)); found != nil {
			line.Note, caught = found[0], slices.Contains(strings.Fields(found[1]), string(namedBy[bug]))
		}
	}
	switch {
	case got.err == nil && len(got.lines) > 0 && got.lines[0].State == proof.NotRun:
		line.State, line.Note, line.Times = proof.NotRun, got.lines[0].Note, 0
	case bug == "" && line.Note == passes || bug != "" && caught:
		line.State = proof.Held
	}
	if bug == "" {
		if line.Row = "nothing planted"; line.State == proof.Failed {
			quote(t.row, got.output)
		}
	}
	line.Seconds = time.Since(began).Seconds()
	return line
}

const passes = "it passes"

// anomaliesLine is how test/chaos says what it found in a history.
var anomaliesLine = regexp.MustCompile(`anomalies: \[(.*)\]`)

// errorLine is what a test says of its failure, or of its seed.
var errorLine = regexp.MustCompile(`(?m)^\s+\w+_test\.go:\d+: (.*)$|^(panic: .*)$`)

var seedLine = regexp.MustCompile(`^SEED=\d+$`)

// verdictOf tells a row that failed, and how, from one that held or did not get to its end.
func verdictOf(got result) (verdict string, failed bool) {
	out := string(got.output)
	var exit *exec.ExitError
	switch {
	case got.err == nil && len(got.lines) > 0 && !slices.ContainsFunc(got.lines, func(l proof.Line) bool { return l.State != proof.Held }):
		return passes, false
	case got.err == nil:
		return "it was not run: " + out, false
	case !errors.As(got.err, &exit) || strings.Contains(out, "panic: test timed out"):
		return fmt.Sprintf("it did not end: %v", got.err), false
	case !strings.Contains(out, "--- FAIL") && !strings.Contains(out, "panic: "):
		return fmt.Sprintf("it did not run: %v: %s", got.err, out), false
	}
	for _, m := range errorLine.FindAllStringSubmatch(out, -1) {
		if verdict = strings.TrimSpace(m[1] + m[2]); !seedLine.MatchString(verdict) {
			break
		}
	}
	return verdict[:min(len(verdict), 160)], true
}
