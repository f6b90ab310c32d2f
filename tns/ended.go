package tns

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"

	"github.com/taubyte/taubyte"
)

// That a project was deleted, a key for each time:
//
//	/ended/<project>/<order, 20 digits>/<peer>   {"at"}
//
// What jobs up to that order publish for it is refused. Orders of jobs are the time of
// their pushes (package claim), so that a project that is made again under its id deploys
// what is pushed from then on.
const endedPrefix = "/ended"

type ended struct {
	At time.Time `json:"at"`
}

// lastOrder is the largest that a job may have which was made up to a moment.
func lastOrder(at time.Time) uint64 { return uint64(at.UnixMilli())<<16 | 0xffff }

// RemoveProject takes all branches of a project off the air, for good: a job that was under
// way meanwhile can't publish any more, whichever branch it is of. The history stays.
//
// It takes a node of role auth, or the verb administer on the project.
func (s *Service) RemoveProject(ctx context.Context, project taubyte.ProjectID) error {
	if err := taubyte.Allow(ctx, taubyte.VerbAdminister, project, taubyte.RoleAuth); err != nil {
		return err
	}
	if err := checkProject(project); err != nil {
		return err
	}
	now := time.Now().UTC()
	value, err := json.Marshal(ended{now})
	if err != nil {
		return err
	}
	key := ds.RawKey(fmt.Sprintf("%s/%s/%020d/%s", endedPrefix, project, lastOrder(now), s.host.ID()))
	if err := s.store.Put(ctx, key, value); err != nil {
		return fmt.Errorf("ending project %s: %w", project, err)
	}
	own := taubyte.AsService(ctx)
	all, err := s.Find(own, string(project))
	if err != nil {
		return err
	}
	for _, p := range all {
		if p.Project != project {
			continue
		}
		for _, b := range p.Branches {
			if err := s.Remove(own, project, b.Branch); err != nil {
				return fmt.Errorf("taking branch %s off the air: %w", b.Branch, err)
			}
		}
	}
	return nil
}

// afterEnd returns ErrForbidden for the part of a job whose project was deleted after its
// push. What names no job is no late one.
func (s *Service) afterEnd(ctx context.Context, project taubyte.ProjectID, part Part) error {
	if part.Job == "" {
		return nil
	}
	prefix := endedPrefix + "/" + string(project) + "/"
	results, err := s.store.Query(ctx, query.Query{Prefix: prefix, KeysOnly: true})
	if err != nil {
		return fmt.Errorf("%w: whether project %s was deleted: %w", taubyte.ErrUnavailable, project, err)
	}
	defer results.Close()
	for r := range results.Next() {
		if r.Error != nil {
			return fmt.Errorf("%w: whether project %s was deleted: %w", taubyte.ErrUnavailable, project, r.Error)
		}
		text, _, _ := strings.Cut(strings.TrimPrefix(r.Key, prefix), "/")
		if order, err := strconv.ParseUint(text, 10, 64); err == nil && part.Order <= order {
			return fmt.Errorf("%w: project %s was deleted after the push that job %s builds", taubyte.ErrForbidden, project, part.Job)
		}
	}
	return ctx.Err()
}
