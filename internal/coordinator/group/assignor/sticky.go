package assignor

import (
	"cmp"
	"container/heap"
	"slices"
)

// TaskGroup is a streams group whose tasks are to be assigned.
type TaskGroup struct {
	// Subtopologies by id.
	Subtopologies []SubtopologyShape
	// Members in the order in which they are served.
	Members []TaskMember
	// StandbyReplicas are how many copies of a task's state are wanted beside that of its active task.
	StandbyReplicas int
}

// SubtopologyShape is how many tasks a subtopology has, and whether they keep state. Only those that do get standby tasks.
type SubtopologyShape struct {
	ID       string
	Tasks    int32
	Stateful bool
}

// TaskMember is a member of a streams group: a thread of a process.
type TaskMember struct {
	ID      string
	Process string
	// Former is what it was given last. Warm-up tasks are not looked at.
	Former TaskAssignment
}

// Sticky gives each task to one member as its active task, and its standby tasks to members of other processes as far as there are such,
// in the members' order. It changes nothing in the group.
//
// Every member gets at most its share of active tasks, which is their number divided by that of members, rounded up. Below that, a task
// goes to who had it, or else to the one with least to do of those who had it as a standby task, whose state is nearly there. What is left
// over goes to whichever process has least per member, and there to the member with least. Then standby tasks are given out likewise, now
// with the share of all tasks, first to who had the task active: its state is the newest.
//
// A subtopology's tasks are given out in a row (range), which is why the steps look at them by partition or by subtopology.
//
// Time is in proportion to tasks and members, times a logarithm, and for standby tasks times StandbyReplicas squared.
func Sticky(g *TaskGroup) []TaskAssignment {
	out := make([]TaskAssignment, len(g.Members))
	if len(g.Members) == 0 {
		return out
	}
	s := newSticky(g)
	s.assignActive()
	s.assignStandby(g)
	for i := range out {
		out[i] = TaskAssignment{Active: s.tasksOf(s.members[i].active), Standby: s.tasksOf(s.members[i].standby)}
	}
	return out
}

// sticky is an assignment in the making. Tasks go by their number: all of the first subtopology, then those of the second, and so on.
type sticky struct {
	g         *TaskGroup
	tasks     []numberedTask
	members   []*worker
	processes []*process // by id

	formerActive  map[int]*worker
	formerStandby map[int][]*worker

	activeShare, share share
}

type numberedTask struct {
	subtopology int
	partition   int32
	holders     []*process // of the active task and the standby tasks
}

// worker is a member.
type worker struct {
	process         *process
	count           int // of all tasks
	active, standby []int
}

// process is the members that run in one process, and hence share its fate and its disk.
type process struct {
	members []*worker
	count   int // of all tasks
	// byLoad is a heap of the members, least first, from the first time that it is needed until a task is given to one of them directly.
	byLoad workersByLoad
}

func newSticky(g *TaskGroup) *sticky {
	s := &sticky{g: g, formerActive: map[int]*worker{}, formerStandby: map[int][]*worker{}}
	first := make(map[string]int, len(g.Subtopologies)) // number of a subtopology's first task
	index := make(map[string]int, len(g.Subtopologies))
	standby := 0
	for i, t := range g.Subtopologies {
		first[t.ID], index[t.ID] = len(s.tasks), i
		for p := range t.Tasks {
			s.tasks = append(s.tasks, numberedTask{subtopology: i, partition: p})
		}
		if t.Stateful {
			standby += int(t.Tasks) * g.StandbyReplicas
		}
	}
	s.activeShare = newShare(len(s.tasks), len(g.Members))
	s.share = newShare(len(s.tasks)+standby, len(g.Members))

	processes := map[string]*process{}
	var ids []string
	each := func(tasks Tasks, visit func(task int)) {
		for _, t := range tasks {
			i, ok := index[t.Subtopology]
			if !ok {
				continue
			}
			for _, p := range t.Partitions {
				if p >= 0 && p < g.Subtopologies[i].Tasks {
					visit(first[t.Subtopology] + int(p))
				}
			}
		}
	}
	for i := range g.Members {
		m := &g.Members[i]
		p := processes[m.Process]
		if p == nil {
			p = &process{}
			processes[m.Process] = p
			ids = append(ids, m.Process)
		}
		w := &worker{process: p}
		p.members = append(p.members, w)
		s.members = append(s.members, w)
		each(m.Former.Active, func(task int) { s.formerActive[task] = w })
		each(m.Former.Standby, func(task int) { s.formerStandby[task] = append(s.formerStandby[task], w) })
	}
	slices.Sort(ids)
	for _, id := range ids {
		s.processes = append(s.processes, processes[id])
	}
	return s
}

// assignActive gives out the active tasks.
func (s *sticky) assignActive() {
	var left []int
	for _, task := range s.byPartition() {
		if w := s.formerActive[task]; w != nil && w.count < s.activeShare.each {
			s.give(task, w, true)
		} else {
			left = append(left, task)
		}
	}

	rest := left[:0]
	for _, task := range left {
		if w := leastLoaded(s.formerStandby[task], nil); w != nil && w.count < s.activeShare.each {
			s.give(task, w, true)
		} else {
			rest = append(rest, task)
		}
	}

	slices.Sort(rest)
	queue := s.processesByLoad()
	for _, task := range rest {
		p := heap.Pop(&queue).(*process)
		s.giveLeast(task, p, true)
		heap.Push(&queue, p)
	}
}

// assignStandby gives out the standby tasks.
func (s *sticky) assignStandby(g *TaskGroup) {
	type wanted struct{ task, replicas int }
	var left []wanted
	backwards := s.byPartition()
	slices.Reverse(backwards)
	for _, task := range backwards {
		if !g.Subtopologies[s.tasks[task].subtopology].Stateful {
			continue
		}
		for i := range g.StandbyReplicas {
			w := s.formerActive[task]
			if w == nil || s.holds(w.process, task) || w.count >= s.share.each {
				w = leastLoaded(s.formerStandby[task], func(p *process) bool { return s.holds(p, task) })
			}
			if w == nil || w.count >= s.share.each {
				left = append(left, wanted{task, g.StandbyReplicas - i})
				break
			}
			s.give(task, w, false)
		}
	}

	slices.SortFunc(left, func(a, b wanted) int { return cmp.Compare(b.task, a.task) })
	queue := s.processesByLoad()
	for _, l := range left {
		for range l.replicas {
			if !s.giveElsewhere(l.task, &queue) {
				break
			}
		}
	}
}

// giveElsewhere gives a standby task to the process with least of those that do not hold the task. It reports whether there was one.
func (s *sticky) giveElsewhere(task int, queue *processesByLoad) (given bool) {
	var taken []*process
	for !given && queue.Len() > 0 {
		p := heap.Pop(queue).(*process)
		taken = append(taken, p)
		if !s.holds(p, task) {
			s.giveLeast(task, p, false)
			given = true
		}
	}
	for _, p := range slices.Backward(taken) {
		heap.Push(queue, p)
	}
	return given
}

// give gives a task to a member.
func (s *sticky) give(task int, w *worker, active bool) {
	w.process.byLoad = nil
	s.book(task, w, active)
}

// giveLeast gives a task to the member of a process with least to do.
func (s *sticky) giveLeast(task int, p *process, active bool) {
	if len(p.members) == 1 {
		s.book(task, p.members[0], active)
		return
	}
	if p.byLoad == nil {
		for _, w := range p.members {
			heap.Push(&p.byLoad, w)
		}
	}
	w := heap.Pop(&p.byLoad).(*worker)
	s.book(task, w, active)
	heap.Push(&p.byLoad, w)
}

func (s *sticky) book(task int, w *worker, active bool) {
	t := &s.tasks[task]
	t.holders = append(t.holders, w.process)
	w.count++
	w.process.count++
	if active {
		w.active = append(w.active, task)
		s.activeShare.reached(w.count)
	} else {
		w.standby = append(w.standby, task)
	}
	s.share.reached(w.count)
}

// holds reports whether a process has a task, active or standby.
func (s *sticky) holds(p *process, task int) bool { return slices.Contains(s.tasks[task].holders, p) }

// byPartition are all tasks by partition and subtopology.
func (s *sticky) byPartition() []int {
	tasks := make([]int, len(s.tasks))
	for i := range tasks {
		tasks[i] = i
	}
	slices.SortFunc(tasks, func(a, b int) int {
		return cmp.Or(cmp.Compare(s.tasks[a].partition, s.tasks[b].partition), cmp.Compare(a, b))
	})
	return tasks
}

// tasksOf turns numbers into tasks.
func (s *sticky) tasksOf(numbers []int) Tasks {
	slices.Sort(numbers)
	var out Tasks
	for _, n := range numbers {
		t := &s.tasks[n]
		id := s.g.Subtopologies[t.subtopology].ID
		if len(out) == 0 || out[len(out)-1].Subtopology != id {
			out = append(out, SubtopologyTasks{Subtopology: id})
		}
		last := &out[len(out)-1]
		last.Partitions = append(last.Partitions, t.partition)
	}
	return out
}

// leastLoaded returns who has least to do of the former holders of a standby task, or nil: one whose process and who himself has less than
// those before. Members of processes that are taken are left out; as in Kafka 4.3, everybody is if the first one's process is taken.
func leastLoaded(members []*worker, taken func(*process) bool) *worker {
	if len(members) == 0 || taken != nil && taken(members[0].process) {
		return nil
	}
	least := members[0]
	for _, w := range members[1:] {
		if w.process.less(least.process) && w.count < least.count && (taken == nil || !taken(w.process)) {
			least = w
		}
	}
	return least
}

// share is how many tasks a member may have: those that are left to be given out, divided by the members that have not reached their
// share, rounded up. It falls as soon as what does not divide is given out.
type share struct{ tasks, members, each int }

func newShare(tasks, members int) share {
	s := share{tasks: tasks, members: members}
	s.divide()
	return s
}

func (s *share) divide() {
	s.each = 0
	if s.members > 0 {
		s.each = (s.tasks + s.members - 1) / s.members
	}
}

// reached takes note that a member now has so many tasks.
func (s *share) reached(count int) {
	if count == s.each {
		s.members--
		s.tasks -= count
		s.divide()
	}
}

// less compares the tasks per member.
func (p *process) less(o *process) bool { return p.count*len(o.members) < o.count*len(p.members) }

// processesByLoad is a heap of processes, the one with least tasks per member first.
type processesByLoad []*process

func (s *sticky) processesByLoad() processesByLoad {
	var queue processesByLoad
	for _, p := range s.processes {
		heap.Push(&queue, p)
	}
	return queue
}

func (h processesByLoad) Len() int           { return len(h) }
func (h processesByLoad) Less(i, j int) bool { return h[i].less(h[j]) }
func (h processesByLoad) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *processesByLoad) Push(x any)        { *h = append(*h, x.(*process)) }
func (h *processesByLoad) Pop() any          { return pop((*[]*process)(h)) }

// workersByLoad is a heap of members, the one with least tasks first.
type workersByLoad []*worker

func (h workersByLoad) Len() int           { return len(h) }
func (h workersByLoad) Less(i, j int) bool { return h[i].count < h[j].count }
func (h workersByLoad) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *workersByLoad) Push(x any)        { *h = append(*h, x.(*worker)) }
func (h *workersByLoad) Pop() any          { return pop((*[]*worker)(h)) }

func pop[T any](s *[]T) T {
	last := (*s)[len(*s)-1]
	*s = (*s)[:len(*s)-1]
	return last
}
