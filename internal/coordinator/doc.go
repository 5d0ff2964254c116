// Package coordinator is the runtime of coordinators.
package coordinator
