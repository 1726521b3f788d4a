// Package task is the program's main job: it opens a SOURCE and a DESTINATION, plans, carries the plan out, and reports
// what happened. The command line, the action and publish exec run it, each with its own Observer.
package task
