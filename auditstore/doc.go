// Package auditstore writes and reads an audit trail that is kept in a JetStream stream, one subject an entry. It is the
// package that workloads import; it needs no Kubernetes.
//
// [New] takes a JetStream handle and the name of a stream that exists. [Open] does the same from a service binding, on a
// connection of its own that it makes again for ever, with rotated credentials. The package never creates, changes or deletes a
// stream, and leaves nothing behind on the server: no consumer outlives the call that made it.
//
// # What is an entry
//
// An entry is the first message stored under <subject>.<id>. A later message under the same id never replaces it and is
// never an entry of its own. Once retention has removed the first message, the next one that is left takes its place.
//
// A writer that still uses a key-value bucket whose subjects were handed over to the stream may leave deletion markers here.
// They neither remove nor replace an entry, and one that is stored before an entry is passed over. An id that holds nothing
// else has no entry: its first marker counts and is reported as a [CorruptError], so that a deletion never goes unseen.
//
// The time of an entry is the time it was first recorded: the header [HeaderSourceTime] where the entry was moved here from
// somewhere else, and the time the stream stored it otherwise. "Newest first" means by that time; of two entries of the
// same time the one with the higher sequence is the newer one. A source time later than the time of storage counts as the
// time of storage, and one that cannot be read is ignored.
//
// A message that is not an entry (not a JSON object, without the id it is stored under, or with headers that cannot be read) is
// reported as a [CorruptError].
// It counts in the total and keeps its place, so that pages neither shift nor stop at it.
//
// # Writing
//
// [StreamStore.Write] returns once the entry is durable. [NewBuffered] puts a queue, or a spool on disk, before it.
//
// # Reading
//
//   - [StreamStore.Get] returns one entry.
//   - [StreamStore.List] returns a page by its offset, and [StreamStore.Page] one by a cursor, which writes meanwhile do not shift.
//   - [StreamStore.Query] yields the entries that match, and [StreamStore.Export] writes them as JSON Lines or CSV.
//   - [StreamStore.Tail] yields entries as they come.
//   - [StreamStore.ListAll] returns everything at once, and holds it in memory.
//
// # What reading costs
//
// [StreamStore.List] makes one request for the stream's state and one direct get for each entry of the page, and for the one
// below where that was not read before, sent together. That is all as long as the page, and what is newer, was written here and
// not moved here, and the times of these rise with the sequences. (A leader whose clock was ahead by more than a page spans is
// noticed when a page that its messages border on is read.) A page further down, or in a
// stream that entries were moved into, first needs to know whether the order of the sequences is the order of time. So the
// first such call reads the headers of the whole stream once, and later calls read what is new since. Where the orders are
// the same (a bucket moved into an empty stream, for example) nothing is kept in memory; where they differ, or where an id
// was written twice, the store keeps 16 bytes for each message.
//
// The newest entries that were read are kept, those of the last 512 messages with a body of up to 4 KiB each, which makes about
// 2 MiB a store at most: a newest page that is asked for again and again reads what is new, and one that it has, to notice that a
// backup has taken the stream's place.
//
// [StreamStore.Page] costs what List does. A [Query] reads page by page from the newest entry down, or in one sweep where its order is
// [AsStored]. [OldestFirst] is that sweep, too, unless the two orders differ, after the look at the headers. AsStored needs none,
// unless an id was written twice.
//
// # Time
//
// Every call ends: a request to the server is given up after [RequestTimeout], however late the deadline of the context is,
// and a write without a deadline after [WriteTimeout]. A call that has not done its work returns an error. A time-out is
// never reported as ErrNotFound, and no list is ever cut short silently. Only [StreamStore.Tail] has no end but its context's.
package auditstore
