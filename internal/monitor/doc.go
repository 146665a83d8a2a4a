// Package monitor shows the state of a job (package fleet) to humans: as a screen on a terminal, and as
// a summary at the end.
//
// Draw returns the text of the screen, and has no other effect. Run shows the screen and handles the keys.
package monitor
