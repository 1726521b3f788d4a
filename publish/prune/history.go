package prune

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/history"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
	"github.com/vantagecompute/slurm-factory-publish/publish/tombstone"
)

// readHistory keeps the objects that the newest records of each index name, and those needed to restore withdrawn
// packages.
func (s *scan) readHistory(ctx context.Context, store Store) error {
	root := history.Dir + s.layout.Name() + "/"
	newest := make(map[string]int) // generation of each index
	s.at = newest
	s.removed = make(map[spec.Hash]bool)
	s.lately = make(map[spec.Hash]bool)
	recorded := make(map[string]map[int]bool) // generations of each index that have a record
	if now, err := s.layout.Glance(ctx, store); err == nil {
		newest[s.layout.IndexID()] = now.Generation
	}
	for info, err := range store.List(ctx, mirror.Range{Prefix: root}) {
		if err != nil {
			return fmt.Errorf("list %s: %w", root, err)
		}
		if strings.HasPrefix(info.Name, tombstone.Dir(s.layout)) {
			if s.expired(info.Modified) {
				s.buried = append(s.buried, info)
				continue
			}
			s.need(stemKey(stemOf(info.Name)))
		}
		index := strings.TrimSuffix(strings.TrimPrefix(path.Dir(info.Name), history.Dir), "/_")
		generation, _, isRecord := history.ParseName(index, info.Name)
		newest[index] = max(newest[index], generation)
		if isRecord && recorded[index] == nil {
			recorded[index] = make(map[int]bool)
		}
		if isRecord && !s.since.IsZero() && info.Modified.After(s.since) && generation > s.after[index] && !s.own[info.Name] {
			if err := s.readChanges(ctx, info.Name, s.lately, "added", "removed"); err != nil && !errors.Is(err, mirror.ErrNotExist) {
				return err
			}
		}
		older := newest[index] - generation
		if isRecord && older >= s.generations {
			continue
		}
		digests, err := digestsIn(ctx, s.reader, info.Name)
		if err == nil && isRecord && older < s.generations-1 {
			recorded[index][generation] = true
			err = s.readChanges(ctx, info.Name, s.removed, "removed")
		}
		if err != nil && !errors.Is(err, mirror.ErrNotExist) {
			return err
		}
		for _, k := range digests {
			s.need(k)
		}
	}
	for index, last := range newest {
		for g := last; g >= max(2, last-s.generations+2); g-- { // packages that the oldest one removed were offered by none of them
			if !recorded[index][g] {
				s.unrecorded = append(s.unrecorded, buildcache.Error.In(history.DirOf(index), fmt.Sprintf("it has no record of generation %d, so it is not known what the generations that are to be kept offered", g)))
			}
		}
	}
	return nil
}

// readChanges records the packages that a generation added or removed, and damaged records.
func (s *scan) readChanges(ctx context.Context, name string, changed map[spec.Hash]bool, kinds ...string) error {
	o, err := s.reader.Open(ctx, name)
	if err != nil {
		return err
	}
	defer o.Body.Close()
	dec := jsontext.NewDecoder(o.Body, jsontext.AllowDuplicateNames(true))
	found := false
	err = members(dec, func(member string) error {
		if !slices.Contains(kinds, member) {
			return dec.SkipValue()
		}
		found = true
		for {
			t, err := dec.ReadToken()
			if err != nil || t.Kind() == ']' {
				return err
			}
			if t.Kind() == '"' {
				changed[history.HashOf(t.String())] = true
			}
		}
	})
	if err == nil && !found {
		err = errors.New("the record is damaged")
	}
	if err != nil && ctx.Err() == nil {
		s.unrecorded = append(s.unrecorded, buildcache.Error.In(name, fmt.Sprintf("it is not known what the generation before this one offered: %v", err)))
		return nil
	}
	return err
}

// stemOf returns the common part of the names of a package's document and tarball in layout v2.
func stemOf(name string) string {
	return strings.TrimSuffix(strings.TrimSuffix(path.Base(name), ".sig"), ".spec.json")
}
