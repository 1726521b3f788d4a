package daemon

import (
	"context"
	"encoding/json"
	"time"
)

// A memory is the part of a mirror's status that a restart would lose.
type memory struct {
	Last      *LastRun      `json:"last_run,omitempty"`
	Published time.Time     `json:"published,omitzero"`
	Indices   []IndexStatus `json:"indices,omitempty"`
}

// remember restores the memory that an earlier process has recorded. It is for display only, so a memory that
// cannot be read is only logged.
func (k *worker) remember(ctx context.Context) {
	content, err := k.d.o.Queue.Noted(ctx, k.m.Key())
	var m memory
	if err == nil && content != nil {
		err = json.Unmarshal(content, &m)
	}
	if err != nil {
		k.d.o.Log.Warn("the status of the last run cannot be read", "mirror", k.m.Name, "reason", err.Error())
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.last == nil {
		k.last, k.published = m.Last, m.Published
		k.merge(m.Indices)
	}
}

// note records the status of the latest run.
func (k *worker) note(ctx context.Context) {
	k.mu.Lock()
	content, err := json.Marshal(memory{k.last, k.published, k.index})
	k.mu.Unlock()
	if err == nil {
		err = k.d.o.Queue.Note(context.WithoutCancel(ctx), k.m.Key(), content)
	}
	if err != nil {
		k.d.o.Log.Warn("the status of the last run could not be recorded and will be missing after a restart", "mirror", k.m.Name, "reason", err.Error())
	}
}
