// Package task is the main job of the program: it opens a SOURCE and a DESTINATION, makes a plan, applies it,
// and reports the result. The command line, the action and publish exec run it, each with its own Observer.
package task
