package report

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// WriteText prints the report for people.
func (r *Report) WriteText(w io.Writer) error {
	fmt.Fprintf(w, "%s\n%d pairs, %d s each load; medians; ratio = %s / %s pair by pair: median (least–greatest)\n",
		r.Machine, r.Pairs, r.Seconds, Ours, r.Other)
	if r.Indicative() {
		fmt.Fprintf(w, "Indicative only: the targets are meant for %d pairs of %d s and full volume.\n", TargetPairs, TargetSeconds)
	}
	for _, n := range r.Notes {
		fmt.Fprintln(w, n)
	}
	fmt.Fprintln(w)

	rows := r.Rows()
	floor := slices.ContainsFunc(rows, func(row Row) bool { return row.Sides[Floor] != Spread{} })
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	head := []string{"figure", Ours, r.Other, "unit", "ratio", "target", ""}
	if floor {
		head = append(head, Floor, "× floor")
	}
	fmt.Fprintln(t, strings.Join(head, "\t"))
	for _, row := range rows {
		cells := []string{
			row.Title, row.side(Ours), row.side(r.Other), row.Unit, ratioText(row.Ratio), row.Target, string(row.Verdict),
		}
		if floor {
			cells = append(cells, row.side(Floor), ratioText(row.AtFloor))
		}
		fmt.Fprintln(t, strings.Join(cells, "\t"))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	return r.writeSummary(w, rows)
}

func (r *Report) writeSummary(w io.Writer, rows []Row) error {
	met, missed := 0, 0
	for _, row := range rows {
		switch row.Verdict {
		case Met:
			met++
		case Missed:
			missed++
		case Untold:
		}
	}
	_, err := fmt.Fprintf(w, "\n%d figures, %d targets met, %d missed\n", len(rows), met, missed)
	for _, f := range r.Failures() {
		_, err = fmt.Fprintf(w, "NOT RUN %s: %s\n", f.Figure, f.Reason)
	}
	return err
}

func (row Row) side(name string) string {
	s, ok := row.Sides[name]
	if !ok {
		return "–"
	}
	return short(s.Median)
}

func ratioText(s *Spread) string {
	if s == nil {
		return "–"
	}
	return fmt.Sprintf("%s (%s–%s)", short(s.Median), short(s.Min), short(s.Max))
}

// WriteJSON prints the report for programs: every value of every run beside what the text says.
func (r *Report) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(struct {
		Machine    string    `json:"machine"`
		Other      string    `json:"other"`
		Pairs      int       `json:"pairs"`
		Seconds    int       `json:"seconds"`
		Indicative bool      `json:"indicative"`
		Notes      []string  `json:"notes"`
		Figures    []Row     `json:"figures"`
		NotRun     []Failure `json:"not_run"`
	}{r.Machine, r.Other, r.Pairs, r.Seconds, r.Indicative(), r.Notes, r.Rows(), r.Failures()})
}
