// Package action is the GitHub Action: one step of a workflow that publishes.
//
// Inputs become the configuration of a task.Publish, and its progress becomes the log of the step. Whatever happens,
// outputs, summary and report are written: they say "failed" until the job has succeeded, so a step that is killed
// does not look as if it had published.
package action
