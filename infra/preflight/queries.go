package preflight

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/vantagecompute/slurm-factory-publish/infra/awsjson"
	"github.com/vantagecompute/slurm-factory-publish/infra/template"
)

func (s Site) workGroup(ctx context.Context, r template.Resource) ([]Conflict, error) {
	name := text(r, "Name")
	there, err := s.among(ctx, name, list{"athena", "AmazonAthena.ListWorkGroups", "WorkGroups", "Name", "NextToken"})
	return taken(there, err, "Athena workgroup "+name, "delete it: aws athena delete-work-group --work-group "+name+renamed)
}

func (s Site) database(ctx context.Context, r template.Resource) ([]Conflict, error) {
	name := text(r, "DatabaseInput.Name")
	err := awsjson.Call(ctx, s.config, "glue", "AWSGlue.GetDatabase", map[string]string{"Name": name}, nil)
	there, err := exists(err, "EntityNotFoundException")
	return taken(there, err, "Glue database "+name, "delete it: aws glue delete-database --name "+name+renamed)
}

// table looks for a table that a later version adds to the database. In a database that
// is taken itself, tables are no conflict of their own.
func (s Site) table(ctx context.Context, r template.Resource) ([]Conflict, error) {
	database, name := text(r, "DatabaseName"), text(r, "TableInput.Name")
	err := awsjson.Call(ctx, s.config, "glue", "AWSGlue.GetTable", map[string]string{"DatabaseName": database, "Name": name}, nil)
	there, err := exists(err, "EntityNotFoundException")
	return taken(there, err, "Glue table "+database+"."+name, "delete it: aws glue delete-table --database-name "+database+" --name "+name)
}

// A list is what an operation lists: under which key, which member is the name, and what
// the token of the next page is called.
type list struct{ service, operation, key, name, token string }

// among looks for a name in a list, page by page.
func (s Site) among(ctx context.Context, name string, l list) (bool, error) {
	in := map[string]string{}
	for {
		var out map[string]json.RawMessage
		if err := awsjson.Call(ctx, s.config, l.service, l.operation, in, &out); err != nil {
			return false, err
		}
		var page []map[string]any
		if err := json.Unmarshal(out[l.key], &page); err != nil && out[l.key] != nil {
			return false, fmt.Errorf("%s: read %s: %w", l.operation, l.key, err)
		}
		if slices.ContainsFunc(page, func(e map[string]any) bool { return e[l.name] == name }) {
			return true, nil
		}
		var token string
		if err := json.Unmarshal(out[l.token], &token); err != nil || token == "" {
			return false, nil
		}
		in[l.token] = token
	}
}
