package report

import (
	"cmp"
	"slices"
)

// The names of the sides. Theirs may be another's: see Report.Other.
const (
	Ours  = "ottla"
	Kafka = "kafka"
	Floor = "floor"
)

// Known says whether there is a figure of that name.
func Known(name string) bool {
	return slices.ContainsFunc(Figures, func(f Figure) bool { return f.Name == name })
}

// TargetPairs and TargetSeconds are the least for which the targets are meant; a shorter run says how things stand and no more.
const (
	TargetPairs   = 5
	TargetSeconds = 60
)

// Report is everything that a run measured. Its methods are not safe for concurrent use.
type Report struct {
	Machine string
	// Other is the name of the side that ours is compared with.
	Other   string
	Pairs   int
	Seconds int
	Quick   bool
	// Notes are sentences about the conditions, in the order in which they were met.
	Notes []string

	runs   map[string]map[string]map[int]float64 // figure → side → pair → value
	failed map[string]string                     // figure → why it could not be run
}

// Note adds a sentence about the conditions, once.
func (r *Report) Note(s string) {
	if !slices.Contains(r.Notes, s) {
		r.Notes = append(r.Notes, s)
	}
}

// Add records what a figure was on one side in one pair.
func (r *Report) Add(figure, side string, pair int, value float64) {
	if r.runs == nil {
		r.runs = map[string]map[string]map[int]float64{}
	}
	if r.runs[figure] == nil {
		r.runs[figure] = map[string]map[int]float64{}
	}
	if r.runs[figure][side] == nil {
		r.runs[figure][side] = map[int]float64{}
	}
	r.runs[figure][side][pair] = value
}

// Fail records that a figure that was asked for could not be run. The first reason stays.
func (r *Report) Fail(figure, reason string) {
	if r.failed == nil {
		r.failed = map[string]string{}
	}
	if r.failed[figure] == "" {
		r.failed[figure] = reason
	}
}

// Values are a side's values of a figure, in the order of the pairs.
func (r *Report) Values(figure, side string) []float64 { return values(r.runs[figure][side]) }

// Verdict is what a target makes of a figure.
type Verdict string

// Verdicts. Untold is that of a figure without a target, or without a ratio to hold against it.
const (
	Met    Verdict = "met"
	Missed Verdict = "missed"
	Untold Verdict = ""
)

// Row is a figure as it is printed.
type Row struct {
	Name    string            `json:"name"`
	Title   string            `json:"title"`
	Unit    string            `json:"unit"`
	Better  string            `json:"better"`
	Sides   map[string]Spread `json:"sides"`
	Runs    map[string]Runs   `json:"runs"`
	Ratio   *Spread           `json:"ratio,omitempty"`          // ours to theirs
	AtFloor *Spread           `json:"ratio_to_floor,omitempty"` // ours to the floor's
	Target  string            `json:"target,omitempty"`
	Verdict Verdict           `json:"verdict,omitempty"`

	target *Target
}

// Runs are a side's values in the order of the pairs.
type Runs []float64

// Rows are the figures that have values of this run, in the order of the table.
func (r *Report) Rows() []Row {
	var rows []Row
	for _, f := range Figures {
		sides := r.runs[f.Name]
		if len(sides) == 0 {
			continue
		}
		row := Row{
			Name: f.Name, Title: f.Title, Unit: f.Unit, Better: "less", Target: f.Target.String(), target: f.Target,
			Sides: map[string]Spread{}, Runs: map[string]Runs{},
		}
		if f.More {
			row.Better = "more"
		}
		for side, runs := range sides {
			row.Sides[side], row.Runs[side] = SpreadOf(values(runs)), values(runs)
		}
		row.Ratio = spreadOrNil(ratios(sides[Ours], sides[r.Other]))
		row.AtFloor = spreadOrNil(ratios(sides[Ours], sides[Floor]))
		row.Verdict = r.verdict(f, row)
		rows = append(rows, row)
	}
	return rows
}

func spreadOrNil(values []float64) *Spread {
	if len(values) == 0 {
		return nil
	}
	s := SpreadOf(values)
	return &s
}

// verdict holds a figure's median against its target.
func (r *Report) verdict(f Figure, row Row) Verdict {
	ours, measured := row.Sides[Ours]
	met := false
	switch t := f.Target; {
	case t == nil || !measured:
		return Untold
	case t.Absolute > 0:
		met = ours.Median <= t.Absolute
	case row.Ratio == nil:
		return Untold
	case t.AtMost > 0:
		met = row.Ratio.Median <= t.AtMost
	default:
		limit := SpreadOf(r.Values(t.Of, Ours)).Median
		met = row.Ratio.Median >= t.AtLeast || t.OrShare > 0 && limit > 0 && ours.Median >= t.OrShare*limit
	}
	if met {
		return Met
	}
	return Missed
}

// Failure is a figure that was asked for and could not be run.
type Failure struct {
	Figure string `json:"figure"`
	Reason string `json:"reason"`
}

// Failures are in the order of their names.
func (r *Report) Failures() []Failure {
	var all []Failure
	for figure, reason := range r.failed {
		all = append(all, Failure{figure, reason})
	}
	slices.SortFunc(all, func(a, b Failure) int { return cmp.Compare(a.Figure, b.Figure) })
	return all
}

// Indicative says whether the run was too short or too small for the targets.
func (r *Report) Indicative() bool {
	return r.Quick || r.Pairs < TargetPairs || r.Seconds < TargetSeconds
}
