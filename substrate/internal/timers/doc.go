// Package timers runs functions by the clock: each tick of a timer once in the whole
// cluster, on one of the nodes that could run the function.
//
// # Who runs a tick
//
// A tick has a name that is the same on every node: the timer's key and the time
// that it was due, which Schedule computes without regard to when a node was started.
// Rendezvous hashing over the living nodes that have the function says who takes it.
// That node asks the voters, itself among them: all living substrate nodes or, of many,
// seven that rendezvous hashing picks for the timer. With the votes of a majority it
// runs the tick. The others of the order try after it, one after the other, a step
// apart (a quarter of the interval, 2 s at most), so that a node that is lost before
// it has asked loses nothing; whoever knows that the tick is taken does not try.
//
// A voter votes once for a tick, and for none that is older than the last one it
// has voted for, nor than itself. Two nodes whose pictures of the cluster differ by
// one node have majorities with a voter in common: nodes may come and go one at
// a time and no tick runs twice. A node stands aside for its first five seconds,
// in which it learns of the others. Nothing of this is kept in a replicated store,
// whose history would grow with every tick.
//
// # What is not promised
//
// A tick is not made up for. It may begin until the next one is due, or for half a
// minute if that is sooner; then it is skipped. So it is where the former tick of the
// timer is running for all of this time, anywhere (one that was cut off with its node is
// taken to run for five more seconds), where no majority answers, and where all nodes
// are down. A node that is lost after it has been elected takes the tick with
// it: a function that is begun twice does more harm than one that is not begun.
//
// While the network is parted each side that believes the other one gone runs the
// ticks. Functions that must not repeat even then find in their event when it was due,
// which is the same on both sides: a key to remember what was done.
package timers
