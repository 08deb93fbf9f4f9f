-- What a sent message was in its sender's stream, if that can be resumed: 16 bytes that name the stream, 4 of the count.
ALTER TABLE message ADD COLUMN origin BLOB;
