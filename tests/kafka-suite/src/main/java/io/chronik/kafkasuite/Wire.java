package io.chronik.kafkasuite;

import org.apache.kafka.common.message.MetadataRequestData;
import org.apache.kafka.common.requests.AbstractRequest;
import org.apache.kafka.common.requests.AbstractResponse;
import org.apache.kafka.common.requests.MetadataRequest;
import org.apache.kafka.common.requests.MetadataResponse;
import org.apache.kafka.common.requests.RequestHeader;

import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.net.Socket;
import java.nio.ByteBuffer;
import java.util.List;

/** Asks one broker what it knows; a client would choose for itself whom it asks. */
final class Wire {
    private static final int CONNECT_MS = 2_000;
    private static final int ANSWER_MS = 5_000;

    /** The answer to Metadata; `null` asks for all topics. */
    static MetadataResponse metadata(int port, List<String> topics) throws IOException {
        MetadataRequestData data = new MetadataRequestData()
            .setTopics(topics == null ? null : MetadataRequest.convertToMetadataRequestTopic(topics))
            .setAllowAutoTopicCreation(false);
        return (MetadataResponse) ask(port, new MetadataRequest(data, (short) 12));
    }

    private static AbstractResponse ask(int port, AbstractRequest request) throws IOException {
        RequestHeader header = new RequestHeader(request.apiKey(), request.version(), "kafka-suite", 1);
        ByteBuffer body = request.serializeWithHeader(header);
        try (Socket socket = new Socket()) {
            socket.connect(new InetSocketAddress("127.0.0.1", port), CONNECT_MS);
            socket.setSoTimeout(ANSWER_MS);
            byte[] frame = ByteBuffer.allocate(4 + body.remaining()).putInt(body.remaining()).put(body).array();
            new DataOutputStream(socket.getOutputStream()).write(frame);
            DataInputStream in = new DataInputStream(socket.getInputStream());
            byte[] answer = new byte[in.readInt()];
            in.readFully(answer);
            return AbstractResponse.parseResponse(ByteBuffer.wrap(answer), header);
        }
    }

    private Wire() { }
}
