package report

import (
	"encoding/xml"
	"fmt"
	"io"
	"math"
	"strings"
)

// The plot's measures, in pixels.
const (
	plotLeft  = 420 // room for titles
	plotWidth = 520 // of the axis
	plotRight = 160 // room for the numbers
	plotTop   = 56
	plotRow   = 22
	plotFoot  = 16
)

// decade is a power of ten that the plot's axis spans on either side at least.
const decade = 1

// WriteSVG draws the ratios on a logarithmic axis: a dot for the median, a bar from the least to the greatest, a line for the target.
// Figures without a ratio are left out.
func (r *Report) WriteSVG(w io.Writer) error {
	var rows []Row
	for _, row := range r.Rows() {
		if row.Ratio != nil && row.Ratio.Min > 0 {
			rows = append(rows, row)
		}
	}
	low, high := -float64(decade), float64(decade)
	for _, row := range rows {
		low, high = min(low, math.Floor(math.Log10(row.Ratio.Min))), max(high, math.Ceil(math.Log10(row.Ratio.Max)))
	}
	x := func(ratio float64) float64 { return plotLeft + plotWidth*(math.Log10(ratio)-low)/(high-low) }

	var b strings.Builder
	width, height := plotLeft+plotWidth+plotRight, plotTop+plotRow*len(rows)+plotFoot
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="12">`+"\n", width, height)
	fmt.Fprintf(&b, `<rect width="100%%" height="100%%" fill="white"/><text x="12" y="20" font-size="14">%s</text>`+"\n",
		escape(fmt.Sprintf("%s / %s: median and spread of %d pairs, %d s each", Ours, r.Other, r.Pairs, r.Seconds)))
	for e := low; e <= high; e++ {
		at, colour := x(math.Pow(10, e)), "#ddd"
		if e == 0 {
			colour = "#555"
		}
		fmt.Fprintf(&b, `<line x1="%.1f" x2="%[1]f" y1="%d" y2="%d" stroke="%s"/><text x="%.1f" y="%d" text-anchor="middle">%g</text>`+"\n",
			at, plotTop-8, height-plotFoot, colour, at, plotTop-12, math.Pow(10, e))
	}
	for i, row := range rows {
		writeBar(&b, row, x, float64(plotTop+plotRow*i)+plotRow/2)
	}
	b.WriteString("</svg>\n")
	_, err := io.WriteString(w, b.String())
	return err
}

func writeBar(b *strings.Builder, row Row, x func(float64) float64, y float64) {
	colour := "#777"
	switch row.Verdict {
	case Met:
		colour = "#2a7"
	case Missed:
		colour = "#c33"
	case Untold:
	}
	fmt.Fprintf(b, `<text x="12" y="%.1f">%s</text>`, y+4, escape(row.Title))
	fmt.Fprintf(b, `<line x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f" stroke="%s" stroke-width="5" stroke-opacity="0.4"/>`,
		x(row.Ratio.Min), x(row.Ratio.Max), y, y, colour)
	fmt.Fprintf(b, `<circle cx="%.1f" cy="%.1f" r="4" fill="%s"/>`, x(row.Ratio.Median), y, colour)
	if t := row.target; t != nil && t.Absolute == 0 {
		at := x(max(t.AtMost, t.AtLeast))
		fmt.Fprintf(b, `<line x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f" stroke="black" stroke-width="2"/>`, at, at, y-7, y+7)
	}
	fmt.Fprintf(b, `<text x="%d" y="%.1f">%s %s</text>`+"\n", plotLeft+plotWidth+8, y+4, escape(short(row.Ratio.Median)+" "+row.Target), row.Verdict)
}

func escape(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(s)) // a strings.Builder never fails
	return b.String()
}
