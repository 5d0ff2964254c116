package report

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
)

func TestSpreadIsMedianAndExtremes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		values []float64
		want   Spread
	}{
		{nil, Spread{}},
		{[]float64{3}, Spread{3, 3, 3}},
		{[]float64{5, 1, 3}, Spread{3, 1, 5}},
		{[]float64{4, 1, 2, 10}, Spread{3, 1, 10}},
	} {
		if got := SpreadOf(c.values); got != c.want {
			t.Errorf("SpreadOf(%v) = %v, want %v", c.values, got, c.want)
		}
	}
}

func TestRatiosArePairByPair(t *testing.T) {
	t.Parallel()
	// Pair 1 has no run of theirs, and pair 3 divides by zero: neither has a ratio.
	got := ratios(map[int]float64{0: 1, 1: 7, 2: 9, 3: 1}, map[int]float64{0: 2, 2: 3, 3: 0})
	if len(got) != 2 || got[0] != 0.5 || got[1] != 3 {
		t.Errorf("ratios = %v, want [0.5 3]", got)
	}
}

func TestShortKeepsThreeDigits(t *testing.T) {
	t.Parallel()
	for v, want := range map[float64]string{
		0: "0", 0.0333: "0.033", 0.5: "0.5", 1.0 / 3: "0.33", 2: "2", 9.994: "9.99", 9.996: "10.0", 25.04: "25.0", 99.96: "100", 1234567: "1,234,567",
	} {
		if got := short(v); got != want {
			t.Errorf("short(%v) = %q, want %q", v, got, want)
		}
	}
}

func TestVerdictHoldsTheMedianAgainstTheTarget(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, figure string
		ours, theirs []float64
		disk         float64
		want         Verdict
	}{
		{"a ratio at the bound", "produce-cpu", []float64{4}, []float64{10}, 0, Met},
		{"a ratio above the bound", "produce-cpu", []float64{4.1}, []float64{10}, 0, Missed},
		{"the median counts, not the worst", "produce-cpu", []float64{1, 1, 9}, []float64{10, 10, 10}, 0, Met},
		{"more is better", "produce-mbps", []float64{150}, []float64{100}, 0, Met},
		{"and too little", "produce-mbps", []float64{149}, []float64{100}, 0, Missed},
		{"an absolute bound needs no other side", "produce-written", []float64{2.1}, nil, 0, Met},
		{"an absolute bound missed", "produce-written", []float64{2.2}, []float64{9}, 0, Missed},
		{"a ratio without the other side", "produce-cpu", []float64{1}, nil, 0, Untold},
		{"the other side alone", "produce-cpu", nil, []float64{1}, 0, Untold},
		{"no target", "produce-p50", []float64{1}, []float64{2}, 0, Untold},
		{"as fast as the disk", "catchup-mbps", []float64{90}, []float64{200}, 100, Met},
		{"slower than disk and peer", "catchup-mbps", []float64{89}, []float64{200}, 100, Missed},
		{"no disk measured", "catchup-mbps", []float64{90}, []float64{200}, 0, Missed},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := &Report{Other: Kafka}
			for pair, v := range c.ours {
				r.Add(c.figure, Ours, pair, v)
			}
			for pair, v := range c.theirs {
				r.Add(c.figure, Kafka, pair, v)
			}
			if c.disk > 0 {
				r.Add("catchup-disk", Ours, 0, c.disk)
			}
			if got := r.Rows()[0].Verdict; got != c.want {
				t.Errorf("verdict %q, want %q", got, c.want)
			}
		})
	}
}

// TestTheTableOfFiguresIsSound catches a target of a figure that does not exist, a bound that can never apply, and names used twice.
func TestTheTableOfFiguresIsSound(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, f := range Figures {
		if seen[f.Name] {
			t.Errorf("%s is in the table twice", f.Name)
		}
		seen[f.Name] = true
		if f.Title == "" || f.Unit == "" {
			t.Errorf("%s has no title or unit", f.Name)
		}
		if g := f.Target; g != nil {
			bounds := 0
			for _, b := range []float64{g.AtMost, g.AtLeast, g.Absolute} {
				if b > 0 {
					bounds++
				}
			}
			if bounds != 1 || f.More != (g.AtLeast > 0) {
				t.Errorf("%s: target %q does not fit", f.Name, g)
			}
			if g.Of != "" && !Known(g.Of) {
				t.Errorf("%s: its target names %s, which is no figure", f.Name, g.Of)
			}
		}
	}
}

// sample is a report with every kind of row.
func sample() *Report {
	r := &Report{Machine: "a machine", Other: Kafka, Pairs: 2, Seconds: 60}
	for pair := range 2 {
		r.Add("produce-mbps", Ours, pair, 700+float64(pair)*100)
		r.Add("produce-mbps", Kafka, pair, 350)
		r.Add("produce-mbps", Floor, pair, 1000)
		r.Add("produce-cpu", Ours, pair, 3)
		r.Add("produce-cpu", Kafka, pair, 4)
	}
	r.Add("start", Ours, 0, 100)
	r.Fail("many-recover", "java & mvn are missing")
	r.Fail("many-recover", "a later reason")
	r.Note("Caches could not be dropped.")
	r.Note("Caches could not be dropped.")
	return r
}

func TestTextNamesRatiosVerdictsAndWhatWasNotRun(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	if err := sample().WriteText(&b); err != nil {
		t.Fatal(err)
	}
	text := b.String()
	for _, want := range []string{
		"Indicative only", "2.14 (2–2.29)", "≥ 1.5 ×", "0.75 (0.7–0.8)", "3 figures, 1 targets met, 1 missed", "NOT RUN many-recover: java & mvn are missing\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the text lacks %q:\n%s", want, text)
		}
	}
	if strings.Count(text, "Caches") != 1 || strings.Contains(text, "a later reason") {
		t.Errorf("a note or reason is repeated:\n%s", text)
	}
	if strings.Contains(text, "half") {
		t.Errorf("a figure that was not measured is printed:\n%s", text)
	}
}

func TestAFullRunIsNotIndicative(t *testing.T) {
	t.Parallel()
	r := &Report{Pairs: TargetPairs, Seconds: TargetSeconds}
	if r.Indicative() {
		t.Error("a run of full length and number is called indicative")
	}
	r.Quick = true
	if !r.Indicative() {
		t.Error("a quick run is not called indicative")
	}
}

func TestJSONHoldsEveryRun(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	if err := sample().WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	var got struct {
		Indicative bool
		Figures    []struct {
			Name    string
			Runs    map[string][]float64
			Ratio   *Spread
			Verdict Verdict
		}
		NotRun []Failure `json:"not_run"`
	}
	if err := json.Unmarshal([]byte(b.String()), &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Figures) != 3 || !got.Indicative || len(got.NotRun) != 1 {
		t.Fatalf("got %+v", got)
	}
	if f := got.Figures[1]; f.Name != "produce-mbps" || len(f.Runs[Ours]) != 2 || f.Runs[Ours][1] != 800 || f.Ratio.Min != 2 || f.Verdict != Met {
		t.Errorf("got %+v", f)
	}
	if got.Figures[0].Ratio != nil {
		t.Error("a figure of one side has a ratio")
	}
}

func TestThePlotIsWellFormedAndHoldsEveryRatio(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	if err := sample().WriteSVG(&b); err != nil {
		t.Fatal(err)
	}
	circles := 0
	for d := xml.NewDecoder(strings.NewReader(b.String())); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if e, ok := token.(xml.StartElement); ok && e.Name.Local == "circle" {
			circles++
		}
	}
	if circles != 2 {
		t.Errorf("%d ratios are drawn, want 2", circles)
	}
}
