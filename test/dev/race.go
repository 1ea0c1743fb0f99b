//go:build race

package dev

// raceEnabled: a test that runs with the race detector runs the program with it, too.
const raceEnabled = true
