package load

import "time"

// pacer says when the requests of one connection are due, at a steady rate over all connections.
type pacer struct {
	next     time.Time
	interval time.Duration // 0 = at once
}

func newPacer(begin time.Time, rate float64, number, connections int) *pacer {
	if rate == 0 {
		return &pacer{}
	}
	interval := time.Duration(float64(time.Second) * float64(connections) / rate)
	return &pacer{next: begin.Add(interval * time.Duration(number) / time.Duration(connections)), interval: interval}
}

// wait returns when the next request is due, not before. If that is in the past already, the request is late, which counts.
func (p *pacer) wait() time.Time {
	if p.interval == 0 {
		return time.Now()
	}
	due := p.next
	p.next = due.Add(p.interval)
	if d := time.Until(due); d > 0 {
		sleep(d)
	}
	return due
}
