package tns

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/tns/config"
)

func TestAClaimIsLaterThanThoseThatAreThere(t *testing.T) {
	f := newFeed(&options{production: []taubyte.Branch{"main"}, log: slog.New(slog.DiscardHandler)})
	c := &config.Project{}
	c.Domains = []config.Domain{{FQDN: "h.example.com"}}
	parts := map[taubyte.RepositoryID]Part{"r": {Config: c}}
	ahead := time.Now().Add(24 * time.Hour) // a clock that is wrong by a day
	f.swap(nil, head{branchKey: branchKey{"z", "main"}, sequence: 1, deployment: &Deployment{Project: "z", Branch: "main", Time: ahead, Parts: parts}})
	times := f.claimTimes(&Deployment{Project: "a", Branch: "main", Time: time.Now(), Parts: parts})
	require.True(t, times["h.example.com"].After(ahead))
}

// What was resolved from an earlier state never takes the place of a later one.
func TestASwapFromAnOldStateIsRefused(t *testing.T) {
	f := newFeed(&options{production: []taubyte.Branch{"main"}, log: slog.New(slog.DiscardHandler)})
	k := branchKey{"p", "main"}
	at := func(sequence uint64, tips ...cid.Cid) head {
		return head{branchKey: k, sequence: sequence, tips: tips, deployment: &Deployment{Project: "p", Branch: "main", Sequence: sequence}}
	}
	first, mine, theirs := object(t, "first"), object(t, "mine"), object(t, "theirs")
	require.True(t, f.swap(nil, at(1, first)))
	require.False(t, f.swap(nil, at(1, mine)))
	require.True(t, f.swap([]cid.Cid{first}, at(2, mine, theirs)), "both sides of a partition, from the store")
	require.False(t, f.swap([]cid.Cid{first}, at(2, mine)), "the one that was published here, which followed the first")
	require.Equal(t, []cid.Cid{mine, theirs}, f.tips(k))
}

func object(t testing.TB, of string) cid.Cid {
	sum, err := multihash.Sum([]byte(of), multihash.SHA2_256, -1)
	require.NoError(t, err)
	return cid.NewCidV1(cid.Raw, sum)
}

// Whatever order claims come in, they end in the same.
func TestClaimsHaveOneOrder(t *testing.T) {
	at := func(n int) time.Time { return time.Unix(int64(n), 0) }
	claims := []contender{
		// By their ages alone, and by rank within a project, these would go in a circle.
		{branchKey{"a", "main"}, HostClaim{Since: at(3)}},
		{branchKey{"a", "master"}, HostClaim{Since: at(1), Rank: 1}},
		{branchKey{"b", "main"}, HostClaim{Since: at(2)}},
		{branchKey{"c", "main"}, HostClaim{Since: at(9), Verified: true}},
		{branchKey{"d", "dev"}, HostClaim{Since: at(99), Verified: true, Generated: true}},
		{branchKey{"e", "main"}, HostClaim{Since: at(2)}},
	}
	for range 200 {
		rand.Shuffle(len(claims), func(i, j int) { claims[i], claims[j] = claims[j], claims[i] })
		sortClaims(claims, func(c *contender) (branchKey, *HostClaim) { return c.branchKey, &c.claim })
		order := ""
		for _, c := range claims {
			order += fmt.Sprintf("%s/%s ", c.project, c.branch)
		}
		require.Equal(t, "d/dev c/main a/main a/master b/main e/main ", order)
	}
}

// BenchmarkChange makes a deployment current and has ten watchers take the change, in
// registries of few and of many projects, and where all of them want one host.
func BenchmarkChange(b *testing.B) {
	versions := [][]cid.Cid{{object(b, "even")}, {object(b, "odd")}}
	for _, projects := range []int{10, 10_000} {
		for _, rivals := range []bool{false, true} {
			b.Run(fmt.Sprintf("projects=%d/rivals=%v", projects, rivals), func(b *testing.B) {
				f := newFeed(&options{production: []taubyte.Branch{"main"}, log: slog.New(slog.DiscardHandler)})
				publish := func(i int, sequence uint64) {
					host := fmt.Sprintf("h%d.example.com", i)
					if rivals {
						host = "h.example.com"
					}
					id := taubyte.ProjectID(fmt.Sprint(i))
					c := &config.Project{ID: id}
					c.Domains = []config.Domain{{FQDN: host}}
					k := branchKey{id, "main"}
					before := f.tips(k)
					tips := versions[0]
					if slices.Equal(before, tips) {
						tips = versions[1]
					}
					f.swap(before, head{
						branchKey: k, sequence: sequence, tips: tips,
						deployment: &Deployment{Project: id, Branch: "main", Sequence: sequence, Parts: map[taubyte.RepositoryID]Part{"r": {Config: c}}},
					})
				}
				for i := range projects {
					publish(i, 1)
				}
				_, version, _, _ := f.since(scope{}, 0)
				for n := 0; b.Loop(); n++ {
					publish(n%projects, uint64(n+2))
					var now uint64
					for range 10 {
						var changed []Change
						if changed, now, _, _ = f.since(scope{}, version); len(changed) != 1 {
							b.Fatal(len(changed))
						}
					}
					version = now
				}
			})
		}
	}
}
