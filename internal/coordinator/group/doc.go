// Package group is the group coordinator's state machine.
package group
