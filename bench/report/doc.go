// Package report turns what was measured into a report: the table of figures and their targets, medians and spreads, verdicts, and the
// three forms in which they are printed (text, JSON, SVG).
//
// Nothing here measures, and nothing here has a number of its own but the targets: a figure without a value of this run is not printed.
package report
