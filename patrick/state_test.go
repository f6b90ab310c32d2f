package patrick_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/test"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/patrick"
)

// history makes records of up to three jobs of a branch, as nodes that see each other
// badly may write them.
func history(rng *rand.Rand, peers []peer.ID) (all []patrick.Record) {
	at := func() time.Time { return time.Unix(rng.Int64N(1000), 0).UTC() }
	who := func() peer.ID { return peers[rng.IntN(len(peers))] }
	states := []patrick.State{patrick.Succeeded, patrick.Failed, patrick.TimedOut, patrick.Superseded, patrick.Queued}
	for n := range 1 + rng.IntN(3) {
		id := taubyte.JobID(fmt.Sprintf("%024x", n))
		order := uint64(100 * (n + 1))
		all = append(all, patrick.SpecRecord(id, order, at()))
		for i := range rng.IntN(4) {
			fence := order + uint64(10*i) + rng.Uint64N(9)
			all = append(all, patrick.LeaseRecord(id, fence, who(), who(), at()))
			for range rng.IntN(3) {
				if rng.IntN(2) == 0 {
					o := patrick.Outcome{State: patrick.Queued, Error: "lost"}
					if rng.IntN(3) == 0 {
						o.State = patrick.Failed
					}
					all = append(all, patrick.EndRecord(id, "lost", fence, who(), o, at()))
					continue
				}
				s := states[rng.IntN(len(states))]
				all = append(all, patrick.EndRecord(id, "end", fence, who(), patrick.Outcome{State: s, Error: string(s)}, at()))
			}
		}
		for range rng.IntN(3) {
			kind := []string{"cancel", "retry"}[rng.IntN(2)]
			all = append(all, patrick.WishRecord(id, kind, order+rng.Uint64N(50), who(), at()))
		}
	}
	// A key is written once.
	seen := map[string]bool{}
	return slices.DeleteFunc(all, func(r patrick.Record) bool {
		again := seen[r.Key]
		seen[r.Key] = true
		return again
	})
}

// jobs are what the records come to, without what is told of a superseded job's end: that
// depends on which later push was heard of first.
func jobs(r patrick.Records) map[taubyte.JobID]patrick.Job {
	all := r.Jobs()
	for id, j := range all {
		if j.State == patrick.Superseded {
			j.Ended = time.Time{}
			all[id] = j
		}
	}
	return all
}

func TestStatesOfAJob(t *testing.T) {
	var peers []peer.ID
	for range 4 {
		p, err := test.RandPeerID()
		require.NoError(t, err)
		peers = append(peers, p)
	}
	reached := map[patrick.State]int{}
	for seed := range 300 {
		rng := rand.New(rand.NewPCG(uint64(seed), 1))
		records := history(rng, peers)
		first := patrick.NewRecords()
		for _, r := range records {
			before := jobs(first)
			first.Add(r)
			for id, j := range jobs(first) {
				// What is published stays so, whatever is heard of later.
				if before[id].State == patrick.Succeeded {
					require.Contains(t, []patrick.State{patrick.Succeeded, patrick.Superseded}, j.State, "seed %d", seed)
				}
			}
		}
		want := jobs(first)

		// Every node that has the records comes to the same jobs, in whatever order
		// and how often they arrive.
		for range 3 {
			other := patrick.NewRecords()
			shuffled := slices.Concat(records, records[:len(records)/2])
			rng.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
			for _, r := range shuffled {
				other.Add(r)
			}
			require.Equal(t, want, jobs(other), "seed %d", seed)
		}

		var newest taubyte.JobID
		for id := range want {
			newest = max(newest, id)
		}
		for id, j := range want {
			reached[j.State]++
			queued, running := first.Listed(id)
			require.Equal(t, j.State == patrick.Queued, queued, "seed %d", seed)
			require.Equal(t, j.State == patrick.Running, running, "seed %d", seed)
			require.LessOrEqual(t, first.Counted(id), j.Attempt)
			switch j.State {
			case patrick.Queued:
				require.Equal(t, newest, id, "an older push waits no more")
				require.Empty(t, j.Worker)
				require.Zero(t, j.Ended)
			case patrick.Running:
				require.NotEmpty(t, j.Worker)
				require.Zero(t, j.Ended)
			case patrick.Succeeded, patrick.Failed, patrick.TimedOut:
				require.NotEmpty(t, j.Worker)
				require.Positive(t, j.Attempt)
			}

			// An operator's later word counts, unless the job was built.
			built := j.State == patrick.Succeeded || j.State == patrick.Superseded
			first.Add(patrick.WishRecord(id, "retry", 1<<40, peers[0], time.Unix(1, 0)))
			if !built && id == newest {
				require.Equal(t, patrick.Queued, first.Jobs()[id].State, "seed %d", seed)
				require.Zero(t, first.Counted(id))
			}
			first.Add(patrick.WishRecord(id, "cancel", 1<<41, peers[0], time.Unix(1, 0)))
			if !built && id == newest {
				require.Equal(t, patrick.Cancelled, first.Jobs()[id].State, "seed %d", seed)
			}
		}
	}
	for _, s := range []patrick.State{patrick.Queued, patrick.Running, patrick.Succeeded, patrick.Failed, patrick.Cancelled, patrick.TimedOut, patrick.Superseded} {
		require.NotZero(t, reached[s], "%s", s)
	}
}
