package wal

import "time"

const (
	// paceEvery is how far apart groups begin while the writer pauses.
	paceEvery = time.Millisecond
	// paceFew is how many entries make a group that is not worth a pause: they share what its write costs.
	paceFew = 4
	// paceWindow is how long the writer goes on in one way before it judges what came of it.
	paceWindow = 64 * time.Millisecond
	// paceKeep is after how many windows with pauses there is one without, to compare with.
	paceKeep = 16
	// paceLeave is the most windows without a pause after one that was of no use.
	paceLeave = 1024
)

// pacer says when the writer lets a small group fill for a moment before it writes it. What a write costs the processors, with the wake-ups
// around it, is as much as everything else that is done for a batch of 64 KiB; a disk that is fast enough to write each batch in a group
// of its own makes thousands of them expensive.
//
// A pause is of use where entries come whether or not those before them were acknowledged: as many of them go into fewer groups. Where senders
// wait for an answer before they send again, less would come. Nobody can tell one from the other beforehand, so the pacer tries: after a
// window without pauses in which groups were small, many, and had others behind them, comes one with pauses. They go on as long as nearly
// as much comes as without, in clearly fewer groups. The lone producer that waits for each answer has no others behind it, and never
// meets a pause.
type pacer struct {
	pausing bool
	began   time.Time // when the newest group was taken
	window  tally     // that goes on
	without tally     // the last one before pauses
	rounds  int       // windows so far with pauses, or still to come before they are tried again
	leave   int       // windows to let pass after the next trial that is of no use
}

// tally is what was taken in a window.
type tally struct {
	start                   time.Time
	took                    time.Duration
	groups, entries, behind int // behind: groups that found entries waiting when the one before was written
}

func (t tally) groupRate() float64 { return float64(t.groups) / t.took.Seconds() }
func (t tally) entryRate() float64 { return float64(t.entries) / t.took.Seconds() }

// pause returns how long a group that holds some entries should be left to fill.
func (p *pacer) pause(now time.Time, entries int) time.Duration {
	if !p.pausing || entries >= paceFew {
		return 0
	}
	return paceEvery - now.Sub(p.began)
}

// taken notes that a group is written now.
func (p *pacer) taken(now time.Time, entries int, behind bool) {
	p.began = now
	if p.window.took = now.Sub(p.window.start); p.window.took >= paceWindow {
		p.judge()
		p.window = tally{start: now}
	}
	p.window.groups++
	p.window.entries += entries
	if behind {
		p.window.behind++
	}
}

// judge decides how the next window goes.
func (p *pacer) judge() {
	w := p.window
	switch {
	case w.took > 2*paceWindow: // little comes
		p.pausing, p.rounds, p.leave = false, 0, 0
	case p.pausing && (w.entryRate() < 0.9*p.without.entryRate() || w.groupRate() > 0.75*p.without.groupRate()):
		if p.rounds > 0 { // it was of use before
			p.leave = 0
		}
		p.pausing, p.rounds, p.leave = false, p.leave, min(max(1, 2*p.leave), paceLeave)
	case p.pausing:
		if p.rounds++; p.rounds >= paceKeep {
			p.pausing, p.rounds, p.leave = false, 0, 0
		}
	case p.rounds > 0:
		p.rounds--
	case w.groupRate() > 1.5/paceEvery.Seconds() && w.entries < paceFew/2*w.groups && w.behind > w.groups/32:
		p.pausing, p.without = true, w
	}
}
