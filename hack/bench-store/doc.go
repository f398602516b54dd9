// Command bench-store measures the auditstore package beside what its users would write without it, against real
// nats-servers: each way as its best honest self, in turns, within one run. It prints a table for each case, and ends with
// one JSON object. What it asserts is that every way returns the right entries, never how fast.
package main
