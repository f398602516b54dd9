package auditstore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
)

// A record of the spool is a header and a body, all numbers little endian:
//
//	magic 4, size of the body 4, checksum of the body 4, checksum of the 12 bytes before 4
//	sequence 8, when it was taken in Unix nanoseconds 8, size of the id 2, id, the entry as JSON
//
// The header has a checksum of its own so that the size of a damaged body can be trusted: what is damaged is one record, and a
// record that a crash has cut short is told from one that was damaged later.
const (
	recordMagic  = "AUS1"
	recordHeader = 16
	recordFixed  = 18 // of the body
	// maxRecord is the most a server's max_payload can be.
	maxRecord = 64 << 20
)

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)

	errCutShort  = errors.New("the record is cut short")
	errNotRecord = errors.New("not a record")
)

func recordSize(rec record) int { return recordHeader + recordFixed + len(rec.id) + len(rec.data) }

func appendRecord(dst []byte, rec record) []byte {
	start := len(dst)
	dst = append(dst, make([]byte, recordHeader)...)
	dst = binary.LittleEndian.AppendUint64(dst, rec.sequence)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(rec.accepted))
	dst = binary.LittleEndian.AppendUint16(dst, uint16(len(rec.id))) // at most maxIDLength
	dst = append(dst, rec.id...)
	dst = append(dst, rec.data...)
	header, body := dst[start:start+recordHeader], dst[start+recordHeader:]
	copy(header, recordMagic)
	binary.LittleEndian.PutUint32(header[4:], uint32(len(body)))
	binary.LittleEndian.PutUint32(header[8:], crc32.Checksum(body, castagnoli))
	binary.LittleEndian.PutUint32(header[12:], crc32.Checksum(header[:12], castagnoli))
	return dst
}

// parseRecord reads the record at the start of data, and returns how many bytes it has. Its data shares memory with data.
//
// With errCutShort data ends before the record does. With errNotRecord the bytes that it returns the number of are no record, and
// behind them is the next one, or the end.
func parseRecord(data []byte) (rec record, size int, err error) {
	if cutShort(data) {
		return record{}, len(data), errCutShort
	}
	size = headerSize(data)
	switch {
	case size == 0:
		return record{}, nextRecord(data), errNotRecord
	case size > len(data):
		return record{}, len(data), errCutShort
	}
	body := data[recordHeader:size]
	if crc32.Checksum(body, castagnoli) != binary.LittleEndian.Uint32(data[8:]) {
		return record{}, size, errNotRecord
	}
	idEnd := recordFixed + int(binary.LittleEndian.Uint16(body[16:]))
	// Inside the JSON of another entry, a string cannot hold these two bytes: so nobody can have a record of his own found by
	// writing its bytes into an entry.
	if idEnd > len(body) || !bytes.HasPrefix(body[idEnd:], []byte(`{"`)) {
		return record{}, size, errNotRecord
	}
	return record{
		sequence: binary.LittleEndian.Uint64(body), accepted: int64(binary.LittleEndian.Uint64(body[8:])),
		id: string(body[recordFixed:idEnd]), data: body[idEnd : size-recordHeader : size-recordHeader],
	}, size, nil
}

// cutShort recognises the beginning of a header, and the zeros that some file systems leave where a crash has kept the size of a
// file and lost its content.
func cutShort(data []byte) bool {
	if len(data) < recordHeader && bytes.HasPrefix(data, []byte(recordMagic)[:min(len(data), len(recordMagic))]) {
		return true
	}
	return len(bytes.TrimLeft(data, "\x00")) == 0
}

// headerSize returns the size of the record by its header, or 0 where that is none.
func headerSize(data []byte) int {
	if len(data) < recordHeader || string(data[:len(recordMagic)]) != recordMagic ||
		crc32.Checksum(data[:12], castagnoli) != binary.LittleEndian.Uint32(data[12:]) {
		return 0
	}
	size := binary.LittleEndian.Uint32(data[4:])
	if size < recordFixed || size > maxRecord {
		return 0
	}
	return recordHeader + int(size)
}

// nextRecord returns where the next header begins, or the length.
func nextRecord(data []byte) int {
	for at := 1; ; at++ {
		i := bytes.Index(data[at:], []byte(recordMagic))
		if i < 0 {
			return len(data)
		}
		if at += i; headerSize(data[at:]) > 0 {
			return at
		}
	}
}
